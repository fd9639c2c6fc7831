/* Can this host run a VM by KVM, and may a hypervisor run in it? The first
 * thing that is missing is said, with the way out. */
#include "kvm/kvm.h"

#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_ROOM = 512, LINE_ROOM = 8192 };

static FILE *open_below(const char *root, const char *path)
{
	char name[PATH_ROOM];
	snprintf(name, sizeof name, "%s%s", root, path);
	return fopen(name, "re");
}

static bool exists_below(const char *root, const char *path, struct stat *st)
{
	char name[PATH_ROOM];
	snprintf(name, sizeof name, "%s%s", root, path);
	return !stat(name, st);
}

/* Is the word in the line, between blanks? */
static bool has_word(const char *line, const char *word)
{
	size_t n = strlen(word);
	for (const char *at = strstr(line, word); at; at = strstr(at + 1, word))
		if ((at == line || isspace((unsigned char)at[-1])) &&
		    (!at[n] || isspace((unsigned char)at[n])))
			return true;
	return false;
}

static void read_cpuinfo(const char *root, struct kvm_host_facts *f)
{
	FILE *file = open_below(root, "/proc/cpuinfo");
	char line[LINE_ROOM];
	if (!file)
		return;
	while (fgets(line, sizeof line, file))
		if (!strncmp(line, "flags", 5)) {
			f->cpu_vmx = has_word(line, "vmx");
			f->cpu_svm = has_word(line, "svm");
			break;
		}
	fclose(file);
}

static char read_nested(const char *root, const char *module)
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "/sys/module/%s/parameters/nested", module);
	FILE *file = open_below(root, path);
	int c = file ? fgetc(file) : EOF;
	if (file)
		fclose(file);
	return c == 'Y' || c == '1' ? 'Y' : c == 'N' || c == '0' ? 'N' : 0;
}

void kvm_probe_files(const char *root, struct kvm_host_facts *f)
{
	struct stat st;
	*f = (struct kvm_host_facts){ 0 };
	read_cpuinfo(root, f);
	f->module_intel = exists_below(root, "/sys/module/kvm_intel", &st);
	f->module_amd = exists_below(root, "/sys/module/kvm_amd", &st);
	f->nested = read_nested(root, f->module_amd ? "kvm_amd" : "kvm_intel");
	f->device = exists_below(root, "/dev/kvm", &st);
	if (f->device) {
		/* The name costs a look into the name services: only when it
		 * is needed. */
		char name[PATH_ROOM];
		snprintf(name, sizeof name, "%s/dev/kvm", root);
		f->permitted = !access(name, R_OK | W_OK);
		if (!f->permitted) {
			const struct group *group = getgrgid(st.st_gid);
			snprintf(f->group, sizeof f->group, "%s", group ? group->gr_name : "");
		}
	}
}

/* Asks the device itself. */
static void ask_kvm(struct kvm_host_facts *f, bool nesting)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		f->open_error = errno;
		return;
	}
	f->opened = true;
	f->api_version = ioctl(kvm, KVM_GET_API_VERSION, 0);
	f->split_irqchip = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SPLIT_IRQCHIP) > 0;
	f->immediate_exit = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) > 0;
	f->signal_msi = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SIGNAL_MSI) > 0;
	if (nesting) {
		struct kvm_cpuid_set *set = alloc_zeroed(1, sizeof *set);
		if (!kvm_cpuid_supported(kvm, set, NULL)) {
			f->supported_vmx = kvm_cpuid_has_vmx(set);
			f->supported_svm = kvm_cpuid_has_svm(set);
		}
		free(set);
	}
	int vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
	f->create_error = vm < 0 ? errno : 0;
	if (vm >= 0)
		close(vm);
	close(kvm);
}

int kvm_create_vm_failed(int error, struct error *e)
{
	if (error == EBUSY)
		return error_set(e, STATUS_ENGINE,
			"KVM cannot turn on VT-x or SVM, because another hypervisor holds it (KVM_CREATE_VM answers EBUSY); stop that one (VirtualBox, VMware, Xen), or use --engine soft.");
	return error_set(e, STATUS_ENGINE,
		"KVM cannot create a VM: \"%s\"; the kernel's log (dmesg) may say more, or use --engine soft.",
		strerror(error));
}

static int explain_missing_device(const struct kvm_host_facts *f, struct error *e)
{
	if (!f->cpu_vmx && !f->cpu_svm)
		return error_set(e, STATUS_ENGINE,
			"/dev/kvm is missing, and the processor shows neither VMX nor SVM in /proc/cpuinfo: they are off in the firmware, or this is a VM whose host does not expose them; use --engine soft.");
	if (!f->module_intel && !f->module_amd)
		return error_set(e, STATUS_ENGINE,
			"/dev/kvm is missing, because the kernel module is not loaded; load it (modprobe %s), or use --engine soft.",
			f->cpu_vmx ? "kvm_intel" : "kvm_amd");
	return error_set(e, STATUS_ENGINE,
		"/dev/kvm is missing, though %s is loaded: a container may hide it; give it the device (--device /dev/kvm), or use --engine soft.",
		f->module_intel ? "kvm_intel" : "kvm_amd");
}

static int explain_not_opened(const struct kvm_host_facts *f, struct error *e)
{
	if (f->open_error != EACCES && f->open_error != EPERM)
		return error_set(e, STATUS_ENGINE,
			"/dev/kvm cannot be opened: \"%s\"; use --engine soft.",
			strerror(f->open_error));
	if (f->permitted)
		return error_set(e, STATUS_ENGINE,
			"/dev/kvm is forbidden by more than its file mode (a sandbox or a device cgroup): \"%s\"; allow it there, or use --engine soft.",
			strerror(f->open_error));
	return error_set(e, STATUS_ENGINE,
		"/dev/kvm is not permitted to this user: it belongs to group %s; join that group (usermod -aG) and log in anew, or use --engine soft.",
		f->group[0] ? f->group : "(unknown)");
}

static int explain_nesting(const struct kvm_host_facts *f, struct error *e)
{
	const char *module = f->module_amd ? "kvm_amd" : "kvm_intel";
	if (f->nested == 'N')
		return error_set(e, STATUS_ENGINE,
			"KVM here runs no hypervisors in VMs: /sys/module/%s/parameters/nested is N; reload the module with nested=1 while no VM runs, or use --engine soft.",
			module);
	if (!f->supported_vmx && !f->supported_svm)
		return error_set(e, STATUS_ENGINE,
			"KVM here offers its guests neither VMX nor SVM (KVM_GET_SUPPORTED_CPUID), so no hypervisor can run in a VM of it; use --engine soft.");
	return 0;
}

int kvm_probe_explain(const struct kvm_host_facts *f, const struct engine_config *config,
		      struct error *e)
{
	if (config->options && config->options[0])
		return error_set(e, STATUS_ENGINE,
			"The kvm engine knows no --engine-options, and \"%s\" was given; leave them out, or use --engine soft.",
			config->options);
	if (!f->device)
		return explain_missing_device(f, e);
	if (!f->opened)
		return explain_not_opened(f, e);
	if (f->api_version != KVM_API_VERSION)
		return error_set(e, STATUS_ENGINE,
			"/dev/kvm speaks version %d of its interface and Nestor version %d; use --engine soft.",
			f->api_version, KVM_API_VERSION);
	if (!f->split_irqchip || !f->immediate_exit || !f->signal_msi)
		return error_set(e, STATUS_ENGINE,
			"This kernel's KVM is too old: it lacks %s; use Linux 4.12 or later, or --engine soft.",
			!f->split_irqchip ? "a split interrupt controller" :
			!f->immediate_exit ? "immediate_exit" : "KVM_SIGNAL_MSI");
	if (f->create_error)
		return kvm_create_vm_failed(f->create_error, e);
	return config->expose_virtualization_extensions ? explain_nesting(f, e) : 0;
}

int kvm_probe(const struct engine_config *config, struct error *e)
{
	struct kvm_host_facts f;
	kvm_probe_files("", &f);
	/* Options alone decide already; a missing device cannot be asked. */
	if (f.device && !(config->options && config->options[0]))
		ask_kvm(&f, config->expose_virtualization_extensions);
	return kvm_probe_explain(&f, config, e);
}
