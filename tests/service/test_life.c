/* A whole service with real workers: a VM's life, the service's death, a
 * worker's death. The guest is a few instructions of our own. */
#include "base/bits.h"
#include "board/acpi_pm.h"
#include "cmdlet_test.h"
#include "service/client.h"
#include "service/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum {
	ANSWER_MS = 60000,
	WAIT_STEP_US = 20000,
	WAIT_STEPS = 500,	/* ten seconds */
	MULTIBOOT_MAGIC = 0x1badb002, MULTIBOOT_ADDRESSES = 1 << 16,
	KERNEL_AT = 0x200000,
};

static char folder[] = "/tmp/test_life.XXXXXX";
static struct rpc_client *client;
static pid_t service_pid;

static json_t *ask(const char *method, json_t *params)
{
	struct error e = { 0 };
	json_t *result = rpc_request(client, method, params, ANSWER_MS, NULL, NULL, &e);
	if (!result)
		print_error("%s: %s\n", method, e.text);
	return result;
}

/* The guests. */

static void write_guest(const char *name, const uint8_t *code, size_t n)
{
	char path[128];
	uint32_t header[8] = {
		MULTIBOOT_MAGIC, MULTIBOOT_ADDRESSES, -(uint32_t)(MULTIBOOT_MAGIC + MULTIBOOT_ADDRESSES),
		KERNEL_AT, KERNEL_AT, (uint32_t)(KERNEL_AT + sizeof header + n),
		(uint32_t)(KERNEL_AT + sizeof header + n), KERNEL_AT + sizeof header,
	};
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fwrite(header, sizeof header, 1, file);
	fwrite(code, n, 1, file);
	fclose(file);
}

#define COM1 0xf8, 0x03
#define PORT(n) (n) & 0xff, (n) >> 8

/* Says '!', then waits for the power button and powers off. */
static const uint8_t obeys[] = {
	0x66, 0xba, COM1, 0xb0, '!', 0xee,		/* mov dx, COM1; mov al, '!'; out dx, al */
	0x66, 0xba, PORT(ACPI_PM1A_EVENT),		/* mov dx, PM1 status */
	0xf3, 0x90, 0x66, 0xed,				/* 1: pause; in ax, dx */
	0xf6, 0xc4, 0x01, 0x74, 0xf7,			/* test ah, PWRBTN_STS; jz 1b */
	0x66, 0xba, PORT(ACPI_PM1A_CONTROL),		/* mov dx, PM1 control */
	0x66, 0xb8, 0x00, 0x20, 0x66, 0xef,		/* mov ax, SLP_EN; out dx, ax */
	0xeb, 0xfe,
};
/* Does nothing for ever. */
static const uint8_t ignores[] = { 0xfa, 0xf4, 0xeb, 0xfd };	/* 1: cli; hlt; jmp 1b */
/* Exits with 7 through the debug port. */
static const uint8_t exits[] = { 0xb8, 7, 0, 0, 0, 0xe7, 0xf4, 0xeb, 0xfe };
/* Dies: an exception without an IDT. */
static const uint8_t dies[] = { 0x0f, 0x01, 0x1d, 0, 0, 0, 0, 0x0f, 0x0b };	/* lidt [0]; ud2 */

/* Dies in that way when the power button is pressed. */
static const uint8_t dies_later[] = {
	0x66, 0xba, PORT(ACPI_PM1A_EVENT),		/* mov dx, PM1 status */
	0xf3, 0x90, 0x66, 0xed,				/* 1: pause; in ax, dx */
	0xf6, 0xc4, 0x01, 0x74, 0xf7,			/* test ah, PWRBTN_STS; jz 1b */
	0x0f, 0x01, 0x1d, 0, 0, 0, 0, 0x0f, 0x0b,	/* lidt [0]; ud2 */
};

#define ADDRESS(n) (n) & 0xff, (n) >> 8 & 0xff, (n) >> 16 & 0xff, (n) >> 24
enum { VMXON_REGION = 0x300000, PAGE_DIRECTORY = 0x301000, POINTER = 0x302000,
       IA32_VMX_BASIC = 0x480, PDE_4M = 0x83, CR4_PSE_VMXE = 0x2010 };
/* A hypervisor: enters VMX operation and says '!'. The power button ends VMX
 * operation, a second time the machine. */
static const uint8_t hypervisor[] = {
	0xb9, ADDRESS(IA32_VMX_BASIC), 0x0f, 0x32,	/* mov ecx, IA32_VMX_BASIC; rdmsr */
	0xa3, ADDRESS(VMXON_REGION),			/* mov [region], eax */
	0xc7, 0x05, ADDRESS(PAGE_DIRECTORY), ADDRESS(PDE_4M),	/* mov dword [directory], PDE */
	0xb8, ADDRESS(PAGE_DIRECTORY), 0x0f, 0x22, 0xd8,	/* mov eax, directory; mov cr3, eax */
	0x0f, 0x20, 0xe0, 0x0d, ADDRESS(CR4_PSE_VMXE), 0x0f, 0x22, 0xe0,	/* or cr4, PSE VMXE */
	0x0f, 0x20, 0xc0, 0x0d, ADDRESS(0x80000020), 0x0f, 0x22, 0xc0,	/* or cr0, PG NE */
	0xc7, 0x05, ADDRESS(POINTER), ADDRESS(VMXON_REGION),
	0xc7, 0x05, ADDRESS(POINTER + 4), ADDRESS(0),
	0xf3, 0x0f, 0xc7, 0x35, ADDRESS(POINTER),	/* vmxon [pointer] */
	0x66, 0xba, COM1, 0xb0, '!', 0xee,
	0x66, 0xba, PORT(ACPI_PM1A_EVENT),
	0xf3, 0x90, 0x66, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xf7,	/* until PWRBTN_STS */
	0x66, 0xb8, 0x00, 0x01, 0x66, 0xef,		/* clear it */
	0x0f, 0x01, 0xc4,				/* vmxoff */
	0xf3, 0x90, 0x66, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xf7,
	0x66, 0xba, PORT(ACPI_PM1A_CONTROL), 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef,
	0xeb, 0xfe,
};

static int connect_service(void)
{
	struct error e = { 0 };
	int fd = service_connect(&e);
	if (fd < 0)
		print_error("%s\n", e.text);
	assert_true(fd >= 0);
	rpc_disconnect(client);
	client = rpc_client_of(fd);
	service_pid = rpc_peer(client);
	return fd;
}

static void new_vm(const char *name, const char *guest)
{
	fine("New-VM", "{'Name':'%s','MemoryStartupBytes':33554432}", name);
	fine("Set-VMFirmware", "{'VMName':['%s'],'KernelPath':'%s/%s'}", name, folder, guest);
}

static const char *vm(const char *name, const char *key)
{
	fine("Get-VM", "{'Name':['%s']}", name);
	return get_text(object(0), key);
}

static pid_t worker(const char *name)
{
	fine("Get-VM", "{'Name':['%s']}", name);
	return (pid_t)get_integer(object(0), "ProcessId");
}

static void wait_state(const char *name, const char *state)
{
	for (unsigned i = 0; i < WAIT_STEPS && strcmp(vm(name, "State"), state); i++)
		usleep(WAIT_STEP_US);
	assert_string_equal(vm(name, "State"), state);
}

/* Ended, whether or not its parent, often a slow init, has looked after it yet. */
static bool is_gone(pid_t pid)
{
	char path[32], state = 'Z';
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *file = fopen(path, "r");
	if (file) {
		assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
		fclose(file);
	}
	return state == 'Z' || state == 'X';
}

static void wait_gone(pid_t pid)
{
	for (unsigned i = 0; i < WAIT_STEPS && !is_gone(pid); i++)
		usleep(WAIT_STEP_US);
	assert_true(is_gone(pid));
}

static void assert_end(const char *name, const char *part)
{
	const char *reason = vm(name, "EndReason");
	if (!strstr(reason, part))
		print_error("%s ended: \"%s\"\n", name, reason);
	assert_non_null(strstr(reason, part));
}

static int64_t ms_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool has_no_new_privileges(pid_t pid)
{
	char path[64], line[128];
	bool found = false;
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file))
		found = found || !strcmp(line, "NoNewPrivs:\t1\n");
	if (file)
		fclose(file);
	return found;
}

static int cleaned(void **state)
{
	connect_service();
	run("Stop-VM", "{'Name':['*'],'TurnOff':true}");
	run("Remove-VM", "{'Name':['*']}");
	fine("Get-VM", "{}");
	return objects() != 0;
}

/* The tests. */

static void started_and_turned_off(void **state)
{
	connect_service();
	new_vm("lab", "ignores");
	int64_t began = ms_now();
	fine("Start-VM", "{'Name':['lab'],'Passthru':true}");
	is("State", "Running");
	is_number("MemoryAssigned", 33554432);
	is("Engine", "soft");
	assert_true(ms_now() - began < 10000);
	fine("Start-VM", "{'Name':['lab']}");
	assert_true(heard("warning", "already in the specified state"));
	run("Remove-VM", "{'Name':['lab']}");
	says("current state", "lab is Running");
	fine("Get-VMReport", "{'VMName':['lab']}");
	double seconds = -1;
	const char *report = get_text(object(0), "Text");
	assert_non_null(strstr(report, "s from start to now"));
	assert_int_equal(sscanf(report, "report: engine soft, 1 processor, 32 MiB, %lf s", &seconds), 1);
	assert_true(seconds >= 0 && seconds < 60);
	run("Set-VMProcessor", "{'VMName':['lab'],'ExposeVirtualizationExtensions':true}");
	says("Failed to modify device 'Processor'.\nCannot modify property.\n'lab' failed to modify device 'Processor'.",
	     "Exposing the virtualization extensions may change only while the virtual machine is Off");
	assert_string_equal(get_text(error(0), "id"), "InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVMProcessor");
	run("Set-VMProcessor", "{'VMName':['lab'],'Count':2}");
	says("current state", "number of processors");
	run("Set-VMMemory", "{'VMName':['lab'],'DynamicMemoryEnabled':true}");
	says("current state", "Dynamic Memory");
	pid_t pid = worker("lab");
	assert_true(pid > 0);
	assert_int_equal(getsid(pid), pid);
	assert_true(has_no_new_privileges(pid));
	fine("Stop-VM", "{'Name':['lab'],'TurnOff':true}");
	assert_string_equal(vm("lab", "State"), "Off");
	assert_string_equal(vm("lab", "EndReason"), "");
	wait_gone(pid);
	fine("Set-VMProcessor", "{'VMName':['lab'],'ExposeVirtualizationExtensions':true}");
}

static void shut_down_by_the_power_button(void **state)
{
	connect_service();
	new_vm("good", "obeys");
	new_vm("deaf", "ignores");
	fine("Start-VM", "{'Name':['good','deaf']}");
	fine("Stop-VM", "{'Name':['good']}");
	assert_string_equal(vm("good", "State"), "Off");
	assert_string_equal(vm("good", "EndReason"), "");
	run("Stop-VM", "{'Name':['deaf']}");	/* NESTOR_SHUTDOWN_SECONDS is 1 */
	says("'deaf' failed to stop.", "did not shut down");
	offers("-TurnOff");
	assert_string_equal(vm("deaf", "State"), "Running");
	fine("Stop-VM", "{'Name':['deaf'],'Force':true}");
	assert_string_equal(vm("deaf", "State"), "Off");
}

static void paused_and_resumed(void **state)
{
	connect_service();
	new_vm("lab", "obeys");
	fine("Start-VM", "{'Name':['lab']}");
	fine("Suspend-VM", "{'Name':['lab'],'Passthru':true}");
	is("State", "Paused");
	run("Stop-VM", "{'Name':['lab']}");
	says("current state", "lab is Paused");
	run("Start-VM", "{'Name':['lab']}");
	says("failed to start", "lab is Paused");
	fine("Resume-VM", "{'Name':['lab'],'Passthru':true}");
	is("State", "Running");
	/* Its processor really goes on: it sees the power button. */
	fine("Stop-VM", "{'Name':['lab']}");
	assert_string_equal(vm("lab", "State"), "Off");
	/* And may be turned off while it stands still. */
	fine("Start-VM", "{'Name':['lab']}");
	fine("Suspend-VM", "{'Name':['lab']}");
	fine("Stop-VM", "{'Name':['lab'],'TurnOff':true}");
	assert_string_equal(vm("lab", "State"), "Off");
}

static int open_console(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	fine("Connect-VMConsole", "{'VMName':['%s']}", name);
	is("$type", "Console");
	snprintf(a.sun_path, sizeof a.sun_path, "%s", get_text(object(0), "Path"));
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	struct timeval limit = { 10, 0 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	return fd;
}

static void restarted_with_its_console(void **state)
{
	char byte = 0;
	connect_service();
	new_vm("lab", "obeys");
	fine("Start-VM", "{'Name':['lab']}");
	int fd = open_console("lab");
	assert_int_equal(recv(fd, &byte, 1, 0), 1);
	assert_int_equal(byte, '!');
	pid_t pid = worker("lab");
	fine("Restart-VM", "{'Name':['lab']}");
	assert_int_equal(recv(fd, &byte, 1, 0), 1);	/* it begins again */
	assert_int_equal(byte, '!');
	assert_int_equal(worker("lab"), pid);
	fine("Suspend-VM", "{'Name':['lab']}");
	fine("Restart-VM", "{'Name':['lab']}");
	assert_int_equal(recv(fd, &byte, 1, 0), 1);
	assert_string_equal(vm("lab", "State"), "Running");
	fine("Stop-VM", "{'Name':['lab']}");
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	close(fd);
}

/* Another client does something after a while. */
static pid_t later(const char *method, json_t *params)
{
	struct error e = { 0 };
	pid_t child = fork();
	assert_true(child >= 0);
	if (child) {
		json_decref(params);
		return child;
	}
	usleep(20 * WAIT_STEP_US);
	int fd = service_connect(&e);
	json_t *answer = fd < 0 ? NULL :
		rpc_request(rpc_client_of(fd), method, params, ANSWER_MS, NULL, NULL, &e);
	_exit(answer ? 0 : 1);
}

static void wait_child(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void waited_for(void **state)
{
	connect_service();
	new_vm("lab", "ignores");
	fine("Start-VM", "{'Name':['lab']}");
	fine("Restart-VM", "{'Name':['lab'],'Wait':true,'Timeout':30}");
	run("Restart-VM", "{'Name':['lab'],'Wait':true,'For':'Heartbeat'}");
	says("-For Heartbeat is not supported", "no service that sends a heartbeat");
	run("Wait-VM", "{'Name':['lab'],'For':'MemoryOperations'}");
	says("-For MemoryOperations is not supported", "do not report");
	run("Wait-VM", "{'Name':['lab'],'For':'Reboot','Timeout':1}");
	says("timed out", "it is not so that lab has been started again; it is Running");
	run("Wait-VM", "{'Name':['lab'],'For':'IPAddress','Timeout':1}");
	says("timed out", "lab has an address");
	pid_t child = later("Restart-VM", json_pack("{s:[s]}", "Name", "lab"));
	fine("Wait-VM", "{'Name':['lab'],'For':'Reboot','Timeout':30}");
	wait_child(child);
	child = later("Stop-VM", json_pack("{s:[s],s:b}", "Name", "lab", "TurnOff", 1));
	run("Wait-VM", "{'Name':['lab'],'For':'Reboot','Timeout':30}");
	says("current state", "lab turned off while it was waited for");
	wait_child(child);
	fine("Wait-VM", "{'Name':['lab'],'State':'Off'}");
	run("Wait-VM", "{'Name':['lab'],'For':'Reboot'}");
	says("current state", "lab turned off");
	run("Wait-VM", "{'Name':['lab'],'State':'Off','For':'Reboot'}");
	says("Parameter set", "");
}

/* CPUUsage is measured: a guest that works uses its processor, one that rests does not. */
static void processor_time(void **state)
{
	int64_t busy = 0;
	connect_service();
	new_vm("busy", "obeys");
	new_vm("idle", "ignores");
	fine("Start-VM", "{'Name':['busy','idle']}");
	for (unsigned i = 0; i < WAIT_STEPS && !busy; i++) {
		usleep(WAIT_STEP_US);
		fine("Get-VM", "{'Name':['busy']}");
		busy = get_integer(object(0), "CPUUsage");
	}
	assert_true(busy > 0 && busy <= 100);
	for (unsigned i = 0; i < WAIT_STEPS; i++) {
		fine("Get-VM", "{'Name':['idle']}");
		if (get_integer(object(0), "CPUUsage") <= 5)
			break;
		usleep(WAIT_STEP_US);
	}
	assert_true(get_integer(object(0), "CPUUsage") <= 5);
}

static void a_guest_that_ends_itself(void **state)
{
	connect_service();
	new_vm("exits", "exits");
	new_vm("dies", "dies");
	fine("Start-VM", "{'Name':['exits']}");
	wait_state("exits", "Off");
	assert_end("exits", "0xf4");
	fine("Start-VM", "{'Name':['dies']}");
	wait_state("dies", "Off");
	assert_end("dies", "triple fault");
	/* The reason goes when it is started again. */
	fine("Set-VMFirmware", "{'VMName':['dies'],'KernelPath':'%s/ignores'}", folder);
	fine("Start-VM", "{'Name':['dies'],'Passthru':true}");
	is("EndReason", "");
}

static void a_worker_that_is_killed(void **state)
{
	connect_service();
	new_vm("lab", "ignores");
	fine("Start-VM", "{'Name':['lab']}");
	pid_t pid = worker("lab");
	kill(pid, SIGKILL);
	wait_state("lab", "Off");
	assert_non_null(strstr(vm("lab", "EndReason"), "killed by signal 9"));
	assert_non_null(strstr(vm("lab", "EndReason"), "Engine soft"));
	fine("Start-VM", "{'Name':['lab']}");
	kill(worker("lab"), SIGSEGV);
	wait_state("lab", "Off");
#ifdef __SANITIZE_ADDRESS__
	/* The sanitizer's own reporter takes the signal and ends the worker. */
	assert_string_not_equal(vm("lab", "EndReason"), "");
#else
	assert_non_null(strstr(vm("lab", "EndReason"), "signal 11"));
	assert_non_null(strstr(vm("lab", "EndReason"), "SIGSEGV"));
#endif
	fine("Start-VM", "{'Name':['lab']}");
	/* One that does not answer is ended all the same. */
	pid = worker("lab");
	kill(pid, SIGSTOP);
	fine("Stop-VM", "{'Name':['lab'],'TurnOff':true}");
	assert_string_equal(vm("lab", "State"), "Off");
	wait_gone(pid);
}

static void kill_service(void)
{
	pid_t pid = service_pid;
	kill(pid, SIGKILL);
	wait_gone(pid);
}

static void the_service_dies_and_comes_back(void **state)
{
	connect_service();
	new_vm("lab", "obeys");
	new_vm("paused", "obeys");
	new_vm("gone", "ignores");
	new_vm("exits later", "obeys");
	fine("Start-VM", "{'Name':['*']}");
	fine("Suspend-VM", "{'Name':['paused']}");
	pid_t before = worker("lab"), gone = worker("gone");
	pid_t first = service_pid;
	kill_service();
	kill(gone, SIGKILL);
	wait_gone(gone);
	connect_service();
	assert_int_not_equal(service_pid, first);
	assert_string_equal(vm("lab", "State"), "Running");
	assert_string_equal(vm("paused", "State"), "Paused");
	assert_int_equal(worker("lab"), before);
	assert_string_equal(vm("gone", "State"), "Off");
	assert_non_null(strstr(vm("gone", "EndReason"), "no service was there"));
	/* It is as well held as before. */
	fine("Stop-VM", "{'Name':['lab']}");
	assert_string_equal(vm("lab", "State"), "Off");
	wait_gone(before);
	kill(worker("paused"), SIGKILL);
	wait_state("paused", "Off");
}

static void a_vm_ends_while_no_service_is_there(void **state)
{
	struct error e = { 0 };
	char path[256];
	connect_service();
	new_vm("lab", "ignores");
	fine("Start-VM", "{'Name':['lab']}");
	fine("Get-VM", "{'Name':['lab']}");
	pid_t pid = worker("lab");
	assert_true(paths_runtime_file(path, sizeof path, vm("lab", "Id"), "ctl"));
	kill_service();
	struct rpc_client *control = rpc_connect(path, &e);
	assert_non_null(control);
	json_decref(rpc_request(control, "Worker.TurnOff", NULL, ANSWER_MS, NULL, NULL, &e));
	rpc_disconnect(control);
	wait_gone(pid);
	connect_service();
	assert_string_equal(vm("lab", "State"), "Off");
	assert_string_equal(vm("lab", "EndReason"), "");	/* it had been turned off */
	/* One that died leaves why, and nothing else. */
	new_vm("dies", "dies_later");
	fine("Start-VM", "{'Name':['dies']}");
	pid = worker("dies");
	assert_true(paths_runtime_file(path, sizeof path, vm("dies", "Id"), "ctl"));
	kill_service();
	control = rpc_connect(path, &e);
	assert_non_null(control);
	json_decref(rpc_request(control, "Worker.PowerButton", NULL, ANSWER_MS, NULL, NULL, &e));
	rpc_disconnect(control);
	wait_gone(pid);
	connect_service();
	assert_string_equal(vm("dies", "State"), "Off");
	assert_end("dies", "triple fault");
	assert_true(paths_runtime_file(path, sizeof path, vm("dies", "Id"), "ended"));
	assert_int_equal(access(path, F_OK), -1);
}

/* The service is killed while it changes the store, somewhere else each time: what was
 * acknowledged is there, what was not is old or new, and the machine that runs goes on. */
static void killed_at_any_moment(void **state)
{
	enum { ROUNDS = 16, MOMENTS_US = 4000 };
	struct error e = { 0 };
	int64_t kept = 0;
	connect_service();
	new_vm("lab", "ignores");
	fine("Start-VM", "{'Name':['lab']}");
	pid_t pid = worker("lab");
	for (int round = 1; round <= ROUNDS; round++) {
		pid_t child = fork();
		assert_true(child >= 0);
		if (!child) {
			json_t *answer = rpc_request(client, "Set-VM", json_pack("{s:[s],s:i}", "Name", "lab",
				"AutomaticStartDelay", round), ANSWER_MS, NULL, NULL, &e);
			_exit(answer ? 0 : 1);
		}
		int status;
		usleep((unsigned)(round * MOMENTS_US / ROUNDS));
		kill_service();
		assert_int_equal(waitpid(child, &status, 0), child);
		connect_service();
		fine("Get-VM", "{'Name':['lab']}");
		int64_t now = get_integer(object(0), "AutomaticStartDelay");
		if (now != round && (now != kept || !WEXITSTATUS(status)))
			fail_msg("round %d, acknowledged: %d; %" PRId64 " is there, %" PRId64 " was", round,
				 !WEXITSTATUS(status), now, kept);
		kept = now;
	}
	assert_string_equal(vm("lab", "State"), "Running");
	assert_int_equal(worker("lab"), pid);
}

/* Dynamic Memory with a guest that has no driver for any of it. */
static void a_guest_without_drivers_keeps_its_memory(void **state)
{
	connect_service();
	new_vm("lab", "ignores");
	fine("Set-VM", "{'Name':['lab'],'DynamicMemory':true,'MemoryMaximumBytes':1073741824}");
	fine("Start-VM", "{'Name':['lab']}");
	sleep(3);	/* rounds of the balancer */
	fine("Get-VM", "{'Name':['lab']}");
	is_number("MemoryAssigned", 33554432);
	is_number("MemoryDemand", 0);
	is("MemoryStatus", "OK");
	is_number("MemoryStartup", 33554432);
	/* The maximum may grow meanwhile, by either cmdlet, and nothing else. */
	fine("Set-VM", "{'Name':['lab'],'MemoryMaximumBytes':2147483648}");
	fine("Set-VMMemory", "{'VMName':['lab'],'MaximumBytes':4294967296,'Buffer':50,'Priority':90}");
	run("Set-VM", "{'Name':['lab'],'MemoryMaximumBytes':1073741824}");
	says("Failed to modify device 'Memory'.", "its maximum may only grow");
	run("Set-VMMemory", "{'VMName':['lab'],'MaximumBytes':1073741824}");
	says("current state", "its maximum may only grow");
	run("Set-VMMemory", "{'VMName':['lab'],'StartupBytes':67108864}");
	says("current state", "the startup amount may change only while the virtual machine is Off");
	run("Set-VM", "{'Name':['lab'],'StaticMemory':true}");
	says("current state", "Dynamic Memory may be turned on or off only while the virtual machine is Off");
	fine("Get-VMMemory", "{'VMName':['lab']}");
	is_number("Maximum", 4294967296);
	is_number("Buffer", 50);
	is_number("Priority", 90);
	fine("Stop-VM", "{'Name':['lab'],'TurnOff':true}");
}

static void a_hypervisor_inside_forbids_a_resize(void **state)
{
	char byte = 0;
	connect_service();
	new_vm("lab", "hypervisor");
	fine("Set-VMProcessor", "{'VMName':['lab'],'ExposeVirtualizationExtensions':true}");
	fine("Start-VM", "{'Name':['lab']}");
	int fd = open_console("lab");
	assert_int_equal(recv(fd, &byte, 1, 0), 1);
	assert_int_equal(byte, '!');
	close(fd);
	fine("Get-VM", "{'Name':['lab']}");
	assert_true(get_true(object(0), "HypervisorRunning"));
	run("Set-VMMemory", "{'VMName':['lab'],'StartupBytes':50331648}");
	says("The hypervisor could not perform the operation because it is not allowed with nested virtualization active.",
	     "A hypervisor runs inside lab");
	says("'lab' failed to modify device 'Memory'. (Virtual machine ID ", "");
	assert_string_equal(get_text(error(0), "id"), "InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVMMemory");
	run("Stop-VM", "{'Name':['lab']}");	/* only ends VMX operation */
	fine("Get-VM", "{'Name':['lab']}");
	assert_false(get_true(object(0), "HypervisorRunning"));
	run("Set-VMMemory", "{'VMName':['lab'],'StartupBytes':50331648}");
	says("current state", "virtio_mem");	/* this guest has no driver */
	run("Set-VMMemory", "{'VMName':['lab'],'StartupBytes':1099511627776}");
	says("current state", "the host has");
	fine("Get-VMMemory", "{'VMName':['lab']}");
	is_number("Startup", 33554432);
	is_number("Maximum", (int64_t)1 << 40);
	fine("Set-VMMemory", "{'VMName':['lab'],'Buffer':30,'Priority':80}");
	fine("Stop-VM", "{'Name':['lab']}");
	assert_string_equal(vm("lab", "State"), "Off");
	fine("Set-VMMemory", "{'VMName':['lab'],'StartupBytes':50331648}");
	/* Without the extensions there is nothing to enter. */
	fine("Set-VMProcessor", "{'VMName':['lab'],'ExposeVirtualizationExtensions':false}");
	fine("Start-VM", "{'Name':['lab']}");
	wait_state("lab", "Off");
	assert_end("lab", "triple fault");
}

static void a_disk_is_used_once(void **state)
{
	connect_service();
	fine("New-VHD", "{'Path':['%s/shared.img'],'SizeBytes':1048576}", folder);
	new_vm("one", "ignores");
	new_vm("two", "ignores");
	fine("Add-VMHardDiskDrive", "{'VMName':['one','two'],'Path':'%s/shared.img'}", folder);
	fine("Start-VM", "{'Name':['one']}");
	run("Start-VM", "{'Name':['two']}");
	says("'two' failed to start.", "is used by the virtual machine one");
	fine("Stop-VM", "{'Name':['one'],'TurnOff':true}");
	fine("Start-VM", "{'Name':['two']}");
}

static void a_start_that_fails_in_the_worker(void **state)
{
	connect_service();
	fine("New-VM", "{'Name':'lab','MemoryStartupBytes':33554432}");
	fine("Set-VMFirmware", "{'VMName':['lab'],'KernelPath':'/etc/passwd'}");
	run("Start-VM", "{'Name':['lab']}");
	says("'lab' failed to start. (Virtual machine ID ", "/etc/passwd");
	assert_string_equal(vm("lab", "State"), "Off");
}

static void many_at_once(void **state)
{
	enum { CLIENTS = 6 };
	int fd[CLIENTS];
	struct error e = { 0 };
	kill_service();		/* they all find none */
	pid_t child[CLIENTS];
	for (unsigned i = 0; i < CLIENTS; i++) {
		child[i] = fork();
		if (!child[i]) {
			fd[i] = service_connect(&e);
			struct rpc_client *c = fd[i] < 0 ? NULL : rpc_client_of(fd[i]);
			json_t *r = c ? rpc_request(c, "New-VM", json_pack("{s:s}", "Name", "many"),
						    ANSWER_MS, NULL, NULL, &e) : NULL;
			_exit(r ? rpc_peer(c) & 0x7f : 200);
		}
	}
	int first = -1, status;
	for (unsigned i = 0; i < CLIENTS; i++) {
		waitpid(child[i], &status, 0);
		assert_true(WIFEXITED(status));
		assert_int_not_equal(WEXITSTATUS(status), 200);
		if (first < 0)
			first = WEXITSTATUS(status);
		assert_int_equal(WEXITSTATUS(status), first);	/* one service served all */
	}
	connect_service();
	fine("Get-VM", "{'Name':['many']}");
	assert_int_equal(objects(), CLIENTS);
}

/* `nestor service --host`, once it answers. */
static pid_t start_host(void)
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, STDERR_FILENO);
		execl(getenv("NESTOR_EXECUTABLE"), "nestor", "service", "--host", (char *)NULL);
		_exit(1);
	}
	for (unsigned i = 0; i < WAIT_STEPS; i++) {
		connect_service();
		if (service_pid == child)
			break;
		usleep(WAIT_STEP_US);
	}
	assert_int_equal(service_pid, child);
	return child;
}

/* VMs start and stop with the host, as their settings say. */
static void the_service_of_a_host(void **state)
{
	static const char *const names[] = { "good", "deaf", "kept", "never" };
	int status;
	connect_service();
	new_vm("good", "obeys");
	new_vm("deaf", "ignores");
	new_vm("kept", "ignores");
	new_vm("never", "ignores");
	fine("Set-VM", "{'Name':['good'],'AutomaticStopAction':'ShutDown'}");
	assert_true(heard("warning", "nestor service --host"));
	fine("Set-VM", "{'Name':['kept'],'AutomaticStartAction':'Start','AutomaticStopAction':'TurnOff','AutomaticStartDelay':1}");
	fine("Set-VM", "{'Name':['never'],'AutomaticStartAction':'Nothing'}");
	fine("Start-VM", "{'Name':['good','deaf','never']}");
	pid_t running = worker("good");
	/* The host's service takes the place of the one that a command started. */
	start_host();
	assert_int_equal(worker("good"), running);
	wait_state("kept", "Running");
	fine("Set-VM", "{'Name':['good'],'AutomaticStopAction':'ShutDown'}");
	assert_false(heard("warning", "--host"));
	for (unsigned round = 0; round < 2; round++) {
		pid_t pid = service_pid;
		kill(pid, SIGTERM);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		connect_service();
		for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
			assert_string_equal(vm(names[i], "State"), "Off");
		assert_string_equal(vm("good", "EndReason"), "");
		if (round)
			break;
		start_host();
		wait_state("good", "Running");	/* it ran when the host stopped */
		wait_state("deaf", "Running");
		wait_state("kept", "Running");
		assert_string_equal(vm("never", "State"), "Off");
	}
}

static void the_service_goes_when_idle(void **state)
{
	connect_service();
	pid_t pid = service_pid;
	rpc_disconnect(client);
	client = NULL;
	wait_gone(pid);		/* NESTOR_IDLE_SECONDS is 2 */
	assert_int_equal(access(paths_socket(), F_OK), -1);
	connect_service();
	assert_int_not_equal(service_pid, pid);
}

#define LIFE(test) cmocka_unit_test_teardown(test, cleaned)
int main(void)
{
	const struct CMUnitTest tests[] = {
		LIFE(started_and_turned_off),
		LIFE(shut_down_by_the_power_button),
		LIFE(paused_and_resumed),
		LIFE(restarted_with_its_console),
		LIFE(waited_for),
		LIFE(processor_time),
		LIFE(a_guest_that_ends_itself),
		LIFE(a_worker_that_is_killed),
		LIFE(the_service_dies_and_comes_back),
		LIFE(a_vm_ends_while_no_service_is_there),
		LIFE(killed_at_any_moment),
		LIFE(a_hypervisor_inside_forbids_a_resize),
		LIFE(a_guest_without_drivers_keeps_its_memory),
		LIFE(a_disk_is_used_once),
		LIFE(a_start_that_fails_in_the_worker),
		LIFE(many_at_once),
		LIFE(the_service_of_a_host),
		LIFE(the_service_goes_when_idle),
	};
	char command[128];
	/* Without it this very program would be started as the service. */
	if (!getenv("NESTOR_EXECUTABLE")) {
		print_error("NESTOR_EXECUTABLE must name the program nestor.\n");
		return 1;
	}
	if (!mkdtemp(folder))
		return 1;
	setenv("NESTOR_STORE", folder, 1);
	setenv("NESTOR_ENGINE", "soft", 1);
	setenv("NESTOR_VETHERNET", "inside", 1);
	setenv("NESTOR_IDLE_SECONDS", "2", 1);
	setenv("NESTOR_SHUTDOWN_SECONDS", "1", 1);
	unsetenv("NESTOR_RUNTIME");
	write_guest("hypervisor", hypervisor, sizeof hypervisor);
	write_guest("obeys", obeys, sizeof obeys);
	write_guest("ignores", ignores, sizeof ignores);
	write_guest("exits", exits, sizeof exits);
	write_guest("dies", dies, sizeof dies);
	write_guest("dies_later", dies_later, sizeof dies_later);
	int result = cmocka_run_group_tests(tests, NULL, NULL);
	if (client)
		kill(service_pid, SIGTERM);
	rpc_disconnect(client);
	json_decref(last);
	usleep(WAIT_STEP_US);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) ? 1 : result;
}
