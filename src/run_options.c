#include "run_options.h"

#include "base/log.h"
#include "net/frame.h"
#include "vm/engine_select.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
	NAME_MAX_LENGTH = 64,	/* of a word we look for a neighbour of */
	HELP_COLUMN = 26,
	HELP_WIDTH = 80,
};

struct option {
	const char *name;
	const char *argument;	/* NULL: a flag */
	bool repeated;
	int (*take)(struct vm_config *c, const char *value, struct error *e);
	const char *help;
};

/* "512M", "1G", "1GiB", "2gb"; a plain number is MiB. */
static int take_memory(struct vm_config *c, const char *value, struct error *e)
{
	static const struct { char letter; uint64_t unit; } units[] = {
		{ 'm', MIB }, { 'g', GIB }, { 't', 1024 * GIB },
	};
	char *end;
	uint64_t unit = MIB;
	bool known = isdigit((unsigned char)*value);
	errno = 0;
	unsigned long long number = strtoull(value, &end, 10);
	if (*end) {
		size_t i = 0;
		while (i < ARRAY_SIZE(units) && units[i].letter != tolower((unsigned char)*end))
			i++;
		known = known && i < ARRAY_SIZE(units) &&
			(!end[1] || !strcasecmp(end + 1, "iB") || !strcasecmp(end + 1, "B"));
		if (i < ARRAY_SIZE(units))
			unit = units[i].unit;
	}
	if (!known)
		return error_set(e, STATUS_USAGE,
			"--memory \"%s\" is no size; write a whole number with M, G or T after it (512M, 1GiB), or a plain number of MiB.",
			value);
	if (errno == ERANGE || number > VM_MEMORY_MAX / unit || number * unit < VM_MEMORY_MIN)
		return error_set(e, STATUS_USAGE,
			"--memory %s is out of range; a VM has from %lluM to %lluG.", value,
			VM_MEMORY_MIN / MIB, VM_MEMORY_MAX / GIB);
	c->memory = number * unit;
	return 0;
}

static int take_processors(struct vm_config *c, const char *value, struct error *e)
{
	char *end;
	bool digit = isdigit((unsigned char)*value);
	unsigned long long number = strtoull(value, &end, 10);
	if (!digit || *end)
		return error_set(e, STATUS_USAGE,
			"--processors \"%s\" is no number; write one from 1 to %d.", value,
			ENGINE_MAX_PROCESSORS);
	if (!number || number > ENGINE_MAX_PROCESSORS)
		return error_set(e, STATUS_USAGE,
			"--processors %s is out of range; a VM has from 1 to %d.", value,
			ENGINE_MAX_PROCESSORS);
	c->processors = (unsigned)number;
	return 0;
}

static int take_engine(struct vm_config *c, const char *value, struct error *e)
{
	static const char *const names[] = {
		[VM_ENGINE_AUTO] = "auto", [VM_ENGINE_SOFT] = "soft", [VM_ENGINE_KVM] = "kvm",
	};
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(value, names[i])) {
			c->engine = i;
			return 0;
		}
	return error_set(e, STATUS_USAGE,
		"--engine does not know \"%s\"; it knows auto, soft and kvm.", value);
}

static int take_expose(struct vm_config *c, const char *value, struct error *e)
{
	c->expose_virtualization_extensions = true;
	return 0;
}

static int take_kernel(struct vm_config *c, const char *value, struct error *e)
{
	c->kernel = value;
	return 0;
}

static int take_initrd(struct vm_config *c, const char *value, struct error *e)
{
	if (c->initrds == VM_MAX_INITRDS)
		return error_set(e, STATUS_USAGE,
			"--initrd \"%s\" is one too many; a VM takes at most %d.", value,
			VM_MAX_INITRDS);
	c->initrd[c->initrds++] = value;
	return 0;
}

static int take_append(struct vm_config *c, const char *value, struct error *e)
{
	c->append = value;
	return 0;
}

/* The word after the last comma is a word of ours only when it looks like
 * one, since file names may hold commas. */
static int take_disk(struct vm_config *c, const char *value, struct error *e)
{
	static const char readonly[] = "readonly";
	const char *comma = strrchr(value, ',');
	struct vm_disk d = { .path = value, .path_length = strlen(value) };
	if (comma && !strcmp(comma + 1, readonly)) {
		d.readonly = true;
		d.path_length = (size_t)(comma - value);
	} else if (comma && !strchr(comma, '.') && !strchr(comma, '/')) {
		return error_set(e, STATUS_USAGE,
			"--disk \"%s\" ends with the unknown word \"%s\"; after the file there may be only \",readonly\".",
			value, comma + 1);
	}
	if (!d.path_length)
		return error_set(e, STATUS_USAGE,
			"--disk \"%s\" names no file; write --disk FILE or --disk FILE,readonly.",
			value);
	if (c->disks == VM_MAX_DISKS)
		return error_set(e, STATUS_USAGE,
			"--disk \"%s\" is one too many; a VM takes at most %d.", value,
			VM_MAX_DISKS);
	c->disk[c->disks++] = d;
	return 0;
}

static int take_serial(struct vm_config *c, const char *value, struct error *e)
{
	static const struct { const char *word; enum console_kind kind; bool path; } forms[] = {
		{ "stdio", CONSOLE_STDIO, false }, { "none", CONSOLE_NONE, false },
		{ "file:", CONSOLE_FILE, true }, { "unix:", CONSOLE_UNIX, true },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(forms); i++) {
		size_t n = strlen(forms[i].word);
		if (strncmp(value, forms[i].word, n) || (!forms[i].path && value[n]))
			continue;
		if (forms[i].path && !value[n])
			return error_set(e, STATUS_USAGE,
				"--serial \"%s\" names no path; write --serial %sPATH.", value,
				forms[i].word);
		if (forms[i].kind == CONSOLE_UNIX &&
		    strlen(value + n) >= sizeof ((struct sockaddr_un *)0)->sun_path)
			return error_set(e, STATUS_USAGE,
				"--serial unix:PATH: the path has %zu bytes and a socket's may have %zu; choose a shorter one.",
				strlen(value + n), sizeof ((struct sockaddr_un *)0)->sun_path - 1);
		c->serial = (struct console_config){ forms[i].kind,
			forms[i].path ? value + n : NULL };
		return 0;
	}
	return error_set(e, STATUS_USAGE,
		"--serial does not know \"%s\"; it knows stdio, file:PATH, unix:PATH and none.",
		value);
}

/* tcp:HOST:GUEST or udp:HOST:GUEST. */
static bool is_forward(const char *word, size_t n)
{
	char copy[NAME_MAX_LENGTH], protocol[4], end;
	unsigned host, guest;
	snprintf(copy, sizeof copy, "%.*s", (int)n, word);
	return n < sizeof copy && sscanf(copy, "%3[a-z]:%5u:%5u%c", protocol, &host, &guest, &end) == 3 &&
		(!strcmp(protocol, "tcp") || !strcmp(protocol, "udp")) &&
		host && host <= UINT16_MAX && guest && guest <= UINT16_MAX;
}

/* The words after the first: forward= (of nat only), port= (of a switch only)
 * and mac=. */
static int check_network_words(const char *value, bool nat, struct error *e)
{
	static const char forward[] = "forward=", mac[] = "mac=", port[] = "port=";
	for (const char *at = strchr(value, ','); at; at = strchr(at + 1, ',')) {
		const char *word = at + 1;
		size_t n = strcspn(word, ",");
		char copy[MAC_TEXT];
		uint8_t address[MAC_LENGTH];
		if (nat && !strncmp(word, forward, strlen(forward))) {
			if (is_forward(word + strlen(forward), n - strlen(forward)))
				continue;
			return error_set(e, STATUS_USAGE,
				"--network %s: \"%.*s\" is no forwarding; write forward=tcp:HOST:GUEST with two port numbers, as forward=tcp:2222:22.",
				value, (int)n, word);
		}
		if (!nat && !strncmp(word, port, strlen(port)) && n > strlen(port))
			continue;
		snprintf(copy, sizeof copy, "%.*s", (int)n - 4, n > 4 ? word + 4 : "");
		if (!strncmp(word, mac, strlen(mac)) && n - 4 < sizeof copy &&
		    mac_parse(copy, address) && mac_is_unicast(address))
			continue;
		return error_set(e, STATUS_USAGE,
			"--network %s: \"%.*s\" is not known there; there may be %s and mac=MAC.", value,
			(int)n, word, nat ? "forward=tcp:HOST:GUEST" : "port=ID");
	}
	return 0;
}

static int take_network(struct vm_config *c, const char *value, struct error *e)
{
	static const char named[] = "switch=";
	size_t n = strcspn(value, ",");
	bool nat = n == 3 && !strncmp(value, "nat", n);
	if (!strcmp(value, "none"))
		return 0;
	if (!nat && (strncmp(value, named, strlen(named)) || n == strlen(named)))
		return error_set(e, STATUS_USAGE,
			"--network does not know \"%s\"; it knows none, nat and switch=NAME.", value);
	if (check_network_words(value, nat, e))
		return -1;
	if (c->networks == VM_MAX_NETWORKS)
		return error_set(e, STATUS_USAGE,
			"--network \"%s\" is one too many; a VM takes at most %d.", value,
			VM_MAX_NETWORKS);
	c->network[c->networks++] = (struct vm_network){
		.kind = nat ? VM_NETWORK_NAT : VM_NETWORK_SWITCH, .value = value, .fd = -1 };
	return 0;
}

static int take_engine_options(struct vm_config *c, const char *value, struct error *e)
{
	c->engine_options = value;
	return 0;
}

static int take_trace(struct vm_config *c, const char *value, struct error *e)
{
	c->trace = value;
	return trace_enable(value, e);
}

static int take_report(struct vm_config *c, const char *value, struct error *e)
{
	c->report = true;
	return 0;
}

static int take_reboot(struct vm_config *c, const char *value, struct error *e)
{
	c->reboot = true;
	return 0;
}

static const struct option options[] = {
	{ "memory", "SIZE", false, take_memory,
	  "the VM's memory: 512M, 1G, 1GiB, or a plain number of MiB; from 2M to 512G, 512M if not given" },
	{ "processors", "N", false, take_processors, "its processors, 1 to 64; 1 if not given" },
	{ "engine", "auto|soft|kvm", false, take_engine,
	  "what runs them: kvm (the host's processor), soft (in software, needs nothing), or auto: kvm when it works and can do what is asked, else soft" },
	{ "expose-virtualization-extensions", NULL, false, take_expose,
	  "the guest may run a hypervisor of its own" },
	{ "kernel", "FILE", false, take_kernel,
	  "what to boot: a Linux bzImage, or an ELF file with a PVH note or a multiboot 1 header" },
	{ "initrd", "FILE", true, take_initrd,
	  "an initial RAM disk or multiboot module; several for a bzImage are joined" },
	{ "append", "TEXT", false, take_append, "the kernel's command line" },
	{ "disk", "FILE[,readonly]", true, take_disk, "a disk image, as a virtio disk: raw, or what its name says (.vhdx, .vhd, .qcow2)" },
	{ "serial", "stdio|file:PATH|unix:PATH|none", false, take_serial,
	  "where the first serial port goes: this terminal (the default; Ctrl-A X leaves, Ctrl-A Ctrl-A sends one Ctrl-A), a file that is emptied first, a socket that waits for connections one at a time, or nowhere" },
	{ "network", "none|nat[,forward=tcp:HOST:GUEST]|switch=NAME", true, take_network,
	  "a network adapter: none (the default), one behind a NAT of its own with DHCP and DNS (the host's loopback is 10.0.2.2 there; connections to the host's port HOST go to the guest's GUEST), or one on a switch that runs; add ,mac=MAC to choose its address, and ,port=ID for a port that the switch has already" },
	{ "engine-options", "LIST", false, take_engine_options,
	  "comma-separated words for the engine; icount: time is instructions executed (one processor); for looking into the soft engine: interpret, eager, lockstep, precise-flags" },
	{ "trace", "LIST", true, take_trace, NULL },
	{ "report", NULL, false, take_report,
	  "at the end print instructions executed, seconds, and exits by level and reason" },
	{ "reboot", NULL, false, take_reboot,
	  "when the guest asks for a reset, reset the VM instead of ending with 72" },
};

static const struct { int status; const char *help; } statuses[] = {
	{ STATUS_OK, "the guest powered off" },
	{ STATUS_USAGE, "wrong command line or missing prerequisite" },
	{ STATUS_FILE, "a file is missing or not what it should be" },
	{ STATUS_ENGINE, "the engine cannot do what was asked" },
	{ STATUS_FAULT, "a fault of Nestor's own" },
	{ STATUS_RESET, "the guest asked for a reset, without --reboot" },
	{ STATUS_DIED, "the guest died (triple fault)" },
};

/* Words from column `at` on, broken at HELP_WIDTH; the cursor is at `from`. */
static void print_wrapped(FILE *out, int from, int at, const char *text)
{
	fprintf(out, "%*s", at - from, "");
	for (int column = at; *text;) {
		int n = (int)strcspn(text, " ");
		if (column > at && column + 1 + n > HELP_WIDTH) {
			fprintf(out, "\n%*s", at, "");
			column = at;
		}
		column += fprintf(out, "%s%.*s", column > at ? " " : "", n, text);
		text += n + (text[n] == ' ');
	}
	fputc('\n', out);
}

/* --trace's help is log.h's own table. */
static void trace_help(char *text, size_t room)
{
	static const char *const names[] = {
#define X(id, name, help) name,
		TRACE_EVENTS(X)
#undef X
	};
	int n = snprintf(text, room, "print events as they happen:");
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		n += snprintf(text + n, room - (size_t)n, " %s,", names[i]);
	snprintf(text + n, room - (size_t)n, " all");
}

void run_options_help(FILE *out)
{
	char text[256];
	fputs("Usage: nestor run [OPTION]... --kernel FILE\n"
	      "Boots one VM in the foreground, without root.\n\nOptions:\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		int at = fprintf(out, "  --%s%s%s%s", o->name, o->argument ? " " : "",
				 o->argument ? o->argument : "", o->repeated ? " ..." : "");
		if (at >= HELP_COLUMN) {
			fputc('\n', out);
			at = 0;
		}
		if (!o->help)
			trace_help(text, sizeof text);
		print_wrapped(out, at, HELP_COLUMN, o->help ? o->help : text);
	}
	fputs("\nExit status:\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(statuses); i++)
		fprintf(out, "  %-5d  %s\n", statuses[i].status, statuses[i].help);
	fputs("  odd    (v << 1 | 1) & 0xff: the guest wrote v to port 0xf4\n"
	      "  130    Ctrl-A X\n"
	      "SIGHUP, SIGINT, SIGQUIT and SIGTERM end the VM cleanly, and then nestor by the\n"
	      "same signal: 129, 130, 131 or 143 in a shell.\n", out);
}

unsigned edit_distance(const char *a, const char *b)
{
	enum { ROWS = 3 };
	unsigned row[ROWS][NAME_MAX_LENGTH + 1];
	size_t m = strlen(a), n = strlen(b);
	if (m > NAME_MAX_LENGTH || n > NAME_MAX_LENGTH)
		return NAME_MAX_LENGTH;
	for (size_t j = 0; j <= n; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= m; i++) {
		unsigned *now = row[i % ROWS], *before = row[(i - 1) % ROWS];
		now[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			unsigned best = before[j - 1] + (a[i - 1] != b[j - 1]);
			if (before[j] + 1 < best)
				best = before[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    row[(i - 2) % ROWS][j - 2] + 1 < best)
				best = row[(i - 2) % ROWS][j - 2] + 1;
			now[j] = best;
		}
	}
	return row[m % ROWS][n];
}

/* `name` without its dashes. */
static int unknown_option(const char *name, struct error *e)
{
	const struct option *nearest = NULL;
	unsigned best = (unsigned)strlen(name) / 2 + 1;
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		unsigned d = edit_distance(name, options[i].name);
		/* A beginning of an option's name is surely meant for it. */
		if (strlen(name) >= 3 && !strncmp(name, options[i].name, strlen(name)))
			d = 0;
		if (d < best) {
			best = d;
			nearest = &options[i];
		}
	}
	if (nearest)
		return error_set(e, STATUS_USAGE,
			"nestor run has no option --%s; did you mean --%s?", name, nearest->name);
	return error_set(e, STATUS_USAGE,
		"nestor run has no option --%s; `nestor run --help` lists those it has.", name);
}

static const struct option *find_option(const char *name, size_t n)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (strlen(options[i].name) == n && !strncmp(options[i].name, name, n))
			return &options[i];
	return NULL;
}

/* Whether the word after option o is not its value but the next option. A
 * kernel's command line may hold anything. */
static bool is_option(const struct option *o, const char *word)
{
	return o->take != take_append && !strncmp(word, "--", 2) &&
		find_option(word + 2, strcspn(word + 2, "="));
}

int run_options_parse(int argc, char *const argv[], struct vm_config *config, struct error *e)
{
	bool seen[ARRAY_SIZE(options)] = { false };
	*config = (struct vm_config){
		.memory = VM_MEMORY_DEFAULT, .processors = 1, .append = "", .engine_options = "",
	};
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i];
		if (!strcmp(word, "--help") || !strcmp(word, "-h"))
			return 1;
		if (word[0] != '-')
			return error_set(e, STATUS_USAGE,
				"nestor run does not know what \"%s\" is for; to boot it, write --kernel %s.",
				word, word);
		const char *name = word + 1 + (word[1] == '-');
		size_t n = strcspn(name, "=");
		const struct option *o = word[1] == '-' ? find_option(name, n) : NULL;
		if (!o) {
			char *bare = strndup(name, n);
			int result = unknown_option(bare ? bare : name, e);
			free(bare);
			return result;
		}
		const char *value = name[n] == '=' ? name + n + 1 : NULL;
		if (!o->argument && value)
			return error_set(e, STATUS_USAGE,
				"--%s takes no value; leave \"=%s\" out.", o->name, value);
		if (o->argument && !value && i + 1 < argc && !is_option(o, argv[i + 1]))
			value = argv[++i];
		if (o->argument && (!value || (!*value && o->take != take_append &&
					       o->take != take_engine_options)))
			return error_set(e, STATUS_USAGE, "--%s needs a value: --%s %s.",
					 o->name, o->name, o->argument);
		if (seen[o - options] && o->argument && !o->repeated)
			return error_set(e, STATUS_USAGE,
				"--%s is given twice, the second time with \"%s\"; give it once.",
				o->name, value);
		seen[o - options] = true;
		if (o->take(config, value, e))
			return -1;
	}
	if (!config->kernel)
		return error_set(e, STATUS_USAGE,
			"nestor run needs something to boot; add --kernel FILE (a Linux bzImage, or an ELF file for PVH or multiboot).");
	if (config->processors > 1 && engine_option_given(config->engine_options, "icount"))
		return error_set(e, STATUS_USAGE,
			"--engine-options icount counts the instructions of one processor and the VM has %u; leave --processors out or icount.",
			config->processors);
	return 0;
}
