/* One program, several roles; what is no role is for the shell. Start reading
 * at run.c for one VM, at shell/main.c and service/service.c for the manager. */
#include "base/bits.h"
#include "base/error.h"
#include "net/role.h"
#include "run.h"
#include "run_options.h"
#include "service/roles.h"
#include "shell/main.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static const struct {
	const char *name;
	int (*main)(int argc, char *const argv[]);	/* NULL: not there yet */
	const char *help;
} roles[] = {
	{ "run", run_main, "boot one VM in the foreground; `nestor run --help` says how" },
	{ "service", service_main, "keep virtual machines and run each in a worker" },
	{ "worker", worker_main, "run one VM for the service" },
	{ "switch", switch_main, "connect virtual machines to a network" },
};

static void help(FILE *out)
{
	fputs("Nestor, a virtual machine monitor whose guests can be hypervisors themselves.\n\n"
	      "Usage: nestor CMDLET [ARGUMENT]...     one cmdlet, for example: nestor Get-VM\n"
	      "       nestor 'COMMAND | COMMAND'      a text as PowerShell has it\n"
	      "       nestor -File FILE [ARGUMENT]... a file of such texts\n"
	      "       nestor -Command TEXT            the same as 'TEXT'\n"
	      "       nestor                          a shell; `Get-Help` in it lists the cmdlets\n"
	      "       nestor ROLE [OPTION]...\n\nRoles:\n", out);
	for (unsigned i = 0; i < ARRAY_SIZE(roles); i++)
		fprintf(out, "  %-10s%s%s\n", roles[i].name,
			roles[i].main ? "" : "(not there yet) ", roles[i].help);
	fputs("\nOptions:\n  --help    this text\n  --version the version\n", out);
}

/* A descriptor below 3 that is closed would be taken by the next file that we
 * open, and the guest's console would be written into it. */
static void open_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			_exit(STATUS_FAULT);
}

int main(int argc, char *argv[])
{
	open_standard_descriptors();
	if (argc < 2)
		return shell_main(0, argv);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || (!strcmp(argv[1], "help") && argc == 2)) {
		help(stdout);
		return STATUS_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("nestor " NESTOR_VERSION);
		return STATUS_OK;
	}
	unsigned nearest = 0, best = ~0u;
	for (unsigned i = 0; i < ARRAY_SIZE(roles); i++) {
		unsigned d = edit_distance(argv[1], roles[i].name);
		if (!d && roles[i].main)
			return roles[i].main(argc - 2, argv + 2);
		if (!d) {
			fprintf(stderr, "nestor: The role %s is not there yet; `nestor run` is what works now.\n",
				argv[1]);
			return STATUS_USAGE;
		}
		if (d < best && roles[i].main) {
			best = d;
			nearest = i;
		}
	}
	if (shell_takes(argv[1]))
		return shell_main(argc - 1, argv + 1);
	if (best <= strlen(roles[nearest].name) / 2 + 1)
		fprintf(stderr, "nestor: There is no role \"%s\"; did you mean `nestor %s`?\n",
			argv[1], roles[nearest].name);
	else
		fprintf(stderr, "nestor: There is no role \"%s\"; `nestor --help` lists them.\n", argv[1]);
	return STATUS_USAGE;
}
