/* VT-x: its state, and what its files have among themselves.
 *
 * Where to start reading: vtx.h (what the processor sees), instructions.c
 * (VMXON .. VMRESUME), entry.c (from VMLAUNCH to the guest's first
 * instruction), exit.c (back), intercepts.c (what leads there). */
#ifndef NESTOR_SOFT_VTX_STATE_H
#define NESTOR_SOFT_VTX_STATE_H

#include "soft/vtx/vtx.h"
#include "x86/paging.h"
#include "x86/vmcs_fields.h"
#include "x86/vmx.h"

/* Identifies the layout of our VMCS region; raise it when the layout changes. */
#define VMCS_REVISION 0x4e530001u
#define VMCS_NO_POINTER (~0ull)

/* The preemption timer counts down when this bit of the TSC changes
 * (IA32_VMX_MISC 4:0), so every 16 ns. */
enum { PREEMPTION_TIMER_RATE = 5, CR3_TARGETS = 4 };
#define PREEMPTION_TIMER_TICK_NS ((1ull << PREEMPTION_TIMER_RATE) * NS_PER_SECOND / CLOCK_TSC_HZ)
/* MSR areas hold this many entries at most (IA32_VMX_MISC 27:25 = 0). */
enum { MSR_AREA_MAX = 512 };

/* A VMCS decoded. The region in guest memory is authoritative while the VMCS
 * is not current. */
struct vmcs {
	uint64_t f[VMCS_FIELD_COUNT];
	bool launched;
};

/* The controls of the running guest, taken from the VMCS at VM entry (an L1
 * cannot change them while L2 runs, except by memory tricks that the manual
 * leaves undefined). secondary is 0 unless it is activated. */
struct vmx_controls {
	uint32_t pin, primary, secondary, exit, entry;
};

/* Bits of CR0, CR4 and EFER that decide which accesses a translation allows:
 * translations of a VPID are kept over an entry or exit only while they stay. */
struct paging_regime {
	uint64_t bits;
	bool known;
};

enum { REGIMES = 64 };

struct vtx {
	struct cpu *cpu;
	bool operation;
	uint64_t vmxon_pointer;
	uint64_t pointer;		/* current VMCS, or VMCS_NO_POINTER */
	struct vmcs vmcs;
	struct vmx_controls on;		/* of the running guest */
	uint64_t capability[0x12];	/* MSRs 480h.. */

	/* the running guest */
	bool virtual_nmi_blocked;
	bool mtf_pending;		/* monitor trap due at the next boundary */
	bool mtf_armed;			/* the boundary before the first instruction is over */
	bool tpr_below_threshold;	/* VM exit due at the next boundary */
	uint64_t ple_first, ple_last;	/* PAUSE-loop exiting, in TSC units */
	bool ple_seen;
	struct {
		bool valid;
		uint64_t rip, instructions;
	} iret;				/* the last IRET that ended blocking by NMI */

	/* VMX-preemption timer. deadline: in VM clock ns, CLOCK_NEVER when off;
	 * armed: for when the clock's timer is set. The clock's timer stays set
	 * over VM exits: an entry that needs it no earlier has nothing to do. */
	struct timer timer;
	_Atomic uint64_t timer_deadline, timer_armed;

	/* guest-linear and guest-physical address and instruction information
	 * of the exit that is being made */
	struct {
		uint64_t linear, physical;
		uint32_t information;
	} exit_data;

	struct {
		uint16_t vpid;
		struct paging_regime regime;
	} regime[REGIMES];

	uint64_t *check_failures;	/* by enum check_id */
	unsigned last_failure;		/* its enum check_id */
	uint64_t msr_load_failures;	/* at VM entry */
};

static inline uint64_t vmcs_get(const struct vtx *v, enum vmcs_field field)
{
	return v->vmcs.f[field];
}

static inline struct engine *vtx_engine(const struct vtx *v)
{
	return (struct engine *)v->cpu->engine;	/* its first member */
}

/* --- vmcs.c --- */
struct vmcs_field_info {
	const char *name;
	uint16_t encoding;
	uint8_t width;		/* enum vmcs_width */
	uint8_t type;		/* enum vmcs_type */
};
extern const struct vmcs_field_info vmcs_field_info[VMCS_FIELD_COUNT];
/* The field that an encoding names; VMCS_NO_FIELD when there is none. The high
 * half of a 64-bit field is found under its own encoding. */
enum vmcs_field vmcs_find(uint64_t encoding);
uint64_t vmcs_read(const struct vmcs *vmcs, enum vmcs_field field, bool high);
void vmcs_write(struct vmcs *vmcs, enum vmcs_field field, bool high, uint64_t value);
/* Highest index of all encodings (IA32_VMX_VMCS_ENUM). */
unsigned vmcs_highest_index(void);
/* The region at `pa` into *vmcs and back. */
void vmcs_load(struct memory *m, uint64_t pa, struct vmcs *vmcs);
void vmcs_store(struct memory *m, uint64_t pa, const struct vmcs *vmcs);
/* Revision identifier with bit 31; false: no RAM there. */
bool vmcs_region_revision(struct memory *m, uint64_t pa, uint32_t *revision);
void vmcs_region_clear(struct memory *m, uint64_t pa);
void vmcs_region_abort(struct memory *m, uint64_t pa, enum vmx_abort indicator);
/* Write the current VMCS back and have none. */
void vtx_release_current(struct vtx *v);

/* --- capability.c --- */
void vtx_capabilities_set(struct vtx *v);
/* May the control word hold this value? */
bool vtx_controls_allowed(const struct vtx *v, enum vmx_control_word word, uint32_t value);
uint64_t vtx_cr0_fixed0(void);
uint64_t vtx_cr4_fixed0(void);
uint64_t vtx_cr4_fixed1(void);
uint64_t vtx_ept_vpid_capability(const struct vtx *v);
/* Would VM entry accept this EPT pointer? */
bool vtx_eptp_valid(const struct vtx *v, uint64_t eptp);

/* --- checks.c --- */
/* Is the count-th time of something worth a line? The 1st, 10th, 100th .. is. */
bool vtx_worth_saying(uint64_t count);

/* --- entry.c --- */
/* Returns only when the checks of controls or host state fail. */
enum vmx_error vtx_enter(struct cpu *cpu, bool launch);


/* --- timer.c --- */
void vtx_timer_create(struct vtx *v);
void vtx_timer_start(struct vtx *v);	/* from the VMCS */
void vtx_timer_stop(struct vtx *v);
/* Ticks that remain. */
uint32_t vtx_timer_value(const struct vtx *v);

/* --- exit.c --- */
struct vmx_exit {
	uint32_t reason;
	uint64_t qualification;
	uint64_t rip;
	uint8_t length;
	bool rf;			/* value of RFLAGS.RF in the guest-state area */
	bool keeps_debug;		/* pending debug exceptions are saved, not cleared */
	bool during_delivery;		/* IDT-vectoring information from cpu->delivery */
	uint32_t interruption_info, interruption_error;
};
_Noreturn void vtx_exit_full(struct cpu *cpu, const struct vmx_exit *x);
/* An exit between two instructions. */
_Noreturn void vtx_exit_boundary(struct cpu *cpu, uint32_t reason, uint64_t qualification,
				 bool keeps_debug);
/* VM-entry failure: host state is loaded, guest state stays as it is in the VMCS. */
_Noreturn void vtx_entry_failed(struct cpu *cpu, uint32_t reason, uint64_t qualification);
_Noreturn void vtx_abort(struct cpu *cpu, enum vmx_abort indicator, const char *why);
/* Has the NMI blocking of the guest just been ended by the IRET that runs? */
bool vtx_iret_unblocked(const struct vtx *v);
/* Load or store an MSR area; 0, or the number (from 1) of the entry that failed. */
enum msr_area { MSR_AREA_ENTRY_LOAD, MSR_AREA_EXIT_LOAD, MSR_AREA_EXIT_STORE };
unsigned vtx_msr_area(struct cpu *cpu, enum msr_area area);

/* --- translations.c: before and after the paging state changes sides --- */
void vtx_leave_translations(struct cpu *cpu);
void vtx_select_translations(struct cpu *cpu);

/* --- trace.c --- */
void vtx_trace_entry(const struct cpu *cpu);
void vtx_trace_exit(const struct cpu *cpu, const struct vmx_exit *x);

/* --- apic_access.c --- */
/* TPR of the virtual-APIC page; NULL when the page is no RAM. */
uint8_t *vtx_vtpr(const struct vtx *v);

/* --- intercepts.c --- */
/* Memory operand as VM-exit instruction information. */
uint32_t vtx_memory_information(const struct insn *i);
/* Displacement of the memory operand, as exit qualification. */
uint64_t vtx_displacement(const struct cpu *cpu, const struct insn *i);

#endif
