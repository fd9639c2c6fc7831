/* The kvm engine: a VM's processors run by the host kernel through /dev/kvm.
 *
 * What is whose. The local APICs are the kernel's (split irqchip); I/O APIC,
 * 8259 pair and PIT are the board's and reach the processors by message
 * (KVM_SIGNAL_MSI) and by the INTR wire (kvm_irq.c). Memory is the VM's own
 * mapping, given to the kernel as slots. Everything else a guest touches comes
 * back as an exit and goes to the bus (kvm_run.c).
 *
 * Every vCPU ioctl waits until the vCPU is out of KVM_RUN. So whatever must be
 * asked of a running vCPU is asked of its thread: a request bit and a kick.
 *
 * Start reading at kvm_engine.c (what is created, in which order), then
 * kvm_run.c (the loop). */
#ifndef NESTOR_KVM_KVM_H
#define NESTOR_KVM_KVM_H

#include "engine/engine.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
	KVM_EXIT_REASONS = 64,		/* room above the last reason of today's kernels */
	KVM_IOAPIC_PINS = 24,
	KVM_CPUID_ROOM = 256,		/* KVM's own bound */
	KVM_NO_VECTOR = -1,
};

/* Four pages just below a 256 KiB BIOS at the end of 4 GiB: never RAM of ours
 * (MEMORY_LOW_MAX), so no E820 entry covers them. Intel processors without
 * unrestricted guest need them for real mode. */
#define KVM_IDENTITY_MAP_ADDRESS 0xfffbc000ull
#define KVM_TSS_ADDRESS 0xfffbd000ull

/* Requests to a vCPU's thread. */
enum {
	KVM_REQUEST_STOP = 1 << 0,
	KVM_REQUEST_NMI = 1 << 1,
	KVM_REQUEST_NESTED = 1 << 2,	/* is the guest in VMX operation? */
};

struct kvm_engine;

struct kvm_processor {
	struct kvm_engine *engine;
	unsigned id;
	int fd;
	struct kvm_run *run;
	_Atomic unsigned requests;
	_Atomic bool inside;		/* in KVM_RUN, or about to be */
	_Atomic int tid;		/* the thread in run(); 0: none */
	bool unfinished;		/* the last exit is completed by the next KVM_RUN */
	int held_vector;		/* acknowledged at the 8259, not yet taken by KVM */
	uint64_t exits[KVM_EXIT_REASONS];

	pthread_mutex_t lock;		/* of what follows */
	pthread_cond_t changed;
	bool active;			/* a thread is in run() */
	bool answered, in_vmx;		/* to KVM_REQUEST_NESTED */
};

struct kvm_cpuid_set {
	struct { uint32_t nent, padding; } head;	/* struct kvm_cpuid2 */
	struct kvm_cpuid_entry2 entry[KVM_CPUID_ROOM];
};

struct kvm_engine {
	struct engine engine;
	int kvm, vm;
	size_t run_size;
	bool intel;			/* the vendor that CPUID shows */
	size_t nested_state_size;	/* 0: this kernel cannot tell */
	_Atomic bool intr;		/* the 8259 pair's INTR wire */
	/* The message of each level-triggered I/O APIC pin; address 0: none. */
	struct { uint64_t address; uint32_t data; } route[KVM_IOAPIC_PINS];
	struct kvm_processor *processor;	/* config.processors of them */
};

static inline struct kvm_engine *kvm_engine_of(struct engine *g)
{
	return (struct kvm_engine *)g;
}

/* kvm_probe.c */
struct kvm_host_facts {
	bool device, permitted, opened;
	int open_error;			/* errno when not opened */
	char group[64];			/* who may open it; "" unknown */
	bool cpu_vmx, cpu_svm;		/* flags of /proc/cpuinfo */
	bool module_intel, module_amd;	/* loaded or built in */
	char nested;			/* parameter of that module: 'Y', 'N', 0 unknown */
	int api_version;
	bool split_irqchip, immediate_exit, signal_msi;
	int create_error;		/* errno of KVM_CREATE_VM, 0: it works */
	bool supported_vmx, supported_svm;	/* KVM shows them to guests */
};

/* What the files of the host say; root: "" or a directory that stands for /.
 * Does not open the device. */
void kvm_probe_files(const char *root, struct kvm_host_facts *f);
/* 0, or -1 with the one reason why these facts do not do. */
int kvm_probe_explain(const struct kvm_host_facts *f, const struct engine_config *config,
		      struct error *e);
int kvm_probe(const struct engine_config *config, struct error *e);
/* The sentence for a failed KVM_CREATE_VM. */
int kvm_create_vm_failed(int error, struct error *e);

/* kvm_cpuid.c: what is shown to the guest; pure. */
struct kvm_cpuid_choice {
	unsigned processors;
	bool virtualization;		/* show VMX or SVM when KVM can */
	bool tsc_deadline;
	uint32_t tsc_khz;
};

/* What the kernel's KVM supports, the rest are questions about it. */
int kvm_cpuid_supported(int kvm, struct kvm_cpuid_set *set, struct error *e);
struct kvm_cpuid_entry2 *kvm_cpuid_find(struct kvm_cpuid_set *set, uint32_t function,
					uint32_t index);
bool kvm_cpuid_is_intel(struct kvm_cpuid_set *set);
bool kvm_cpuid_has_vmx(struct kvm_cpuid_set *set);
bool kvm_cpuid_has_svm(struct kvm_cpuid_set *set);
/* From all that KVM supports to what our guests see, but for what differs
 * between the processors, which kvm_cpuid_place sets. */
void kvm_cpuid_filter(struct kvm_cpuid_set *set, const struct kvm_cpuid_choice *choice);
void kvm_cpuid_place(struct kvm_cpuid_set *set, unsigned apic_id);
/* CPUID leaf 15h: the fraction numerator/denominator nearest to
 * tsc_khz/crystal_khz whose numerator Linux's 32-bit product
 * crystal_khz * numerator survives. 0/0 (not enumerated: the guest measures)
 * when none is within 10 ppm. */
void kvm_tsc_ratio(uint32_t tsc_khz, uint32_t crystal_khz, uint32_t *numerator,
		   uint32_t *denominator);

/* kvm_irq.c */
void kvm_msi(struct engine *g, uint64_t address, uint32_t data);
void kvm_extint(struct engine *g, bool level);
void kvm_nmi(struct engine *g);
void kvm_ioapic_route(struct engine *g, unsigned pin, uint64_t address, uint32_t data,
		      bool level_triggered);
/* On the vCPU's thread, before KVM_RUN: pass on INTR, or ask for the window. */
void kvm_offer_extint(struct kvm_processor *p);
void kvm_take_nmi(struct kvm_processor *p);

/* kvm_run.c */
int kvm_run_initialise(struct error *e);	/* the kick's signal handler */
void kvm_run_processor(struct engine *g, unsigned processor);
void kvm_request(struct kvm_processor *p, unsigned request);
void kvm_kick(struct kvm_processor *p);
void kvm_stop(struct engine *g);
bool kvm_hypervisor_running(struct engine *g);
void kvm_report(struct engine *g, FILE *out);
const char *kvm_exit_name(unsigned reason);

/* kvm_state.c */
void kvm_set_state(struct engine *g, unsigned processor, const struct processor_state *s);
void kvm_get_state(struct engine *g, unsigned processor, struct processor_state *s);
struct kvm_segment kvm_segment_from(const struct segment *s);
struct segment kvm_segment_to(const struct kvm_segment *s);
/* As firmware leaves the MSRs: MTRRs on, fast strings, VMX locked on or off. */
int kvm_preset_msrs(struct kvm_processor *p, struct error *e);
/* Not while the vCPU is in KVM_RUN. */
bool kvm_in_vmx_operation(struct kvm_processor *p);

/* kvm_save.c */
void kvm_save(struct engine *g, struct state *s);
int kvm_load(struct engine *g, struct state *s, struct error *e);

/* kvm_dump.c: headline, registers, pending events and code of a vCPU that
 * cannot go on, for a human. */
enum { KVM_DUMP_SIZE = 4096 };
void kvm_dump(struct kvm_processor *p, const char *headline, char text[KVM_DUMP_SIZE]);

#endif
