#include "kvm/kvm.h"

#include "base/log.h"
#include "x86/registers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum {
	TYPE_TSS16_BUSY = 3, TYPE_TSS_BUSY = 11,
	MTRR_ENABLED_FIXED_ON_WRITE_BACK = 0xc06,
	MISC_ENABLE_FAST_STRINGS = 1 << 0,
	MISC_ENABLE_NO_BTS = 1 << 11,
	MISC_ENABLE_NO_PEBS = 1 << 12,
	FEATURE_CONTROL_LOCKED = 1 << 0,
	FEATURE_CONTROL_VMX_OUTSIDE_SMX = 1 << 2,
	EFER_SVME = 1 << 12,
};

/* Calls that fail only when the vCPU is gone or our arguments are wrong. */
static void must(struct kvm_processor *p, unsigned long call, void *argument, const char *name)
{
	if (ioctl(p->fd, call, argument) < 0)
		panic("%s of processor %u: %s", name, p->id, strerror(errno));
}

struct kvm_segment kvm_segment_from(const struct segment *s)
{
	uint32_t ar = s->access_rights;
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->selector,
		.type = ar & AR_TYPE, .s = !!(ar & AR_S),
		.dpl = (ar & AR_DPL) >> AR_DPL_SHIFT, .present = !!(ar & AR_P),
		.avl = !!(ar & AR_AVL), .l = !!(ar & AR_L), .db = !!(ar & AR_DB),
		.g = !!(ar & AR_G), .unusable = !!(ar & AR_UNUSABLE),
	};
}

struct segment kvm_segment_to(const struct kvm_segment *s)
{
	return (struct segment){
		.base = s->base, .limit = s->limit, .selector = s->selector,
		.access_rights = s->type | (s->s ? AR_S : 0) |
			(uint32_t)s->dpl << AR_DPL_SHIFT | (s->present ? AR_P : 0) |
			(s->avl ? AR_AVL : 0) | (s->l ? AR_L : 0) | (s->db ? AR_DB : 0) |
			(s->g ? AR_G : 0) | (s->unusable ? AR_UNUSABLE : 0),
	};
}

static void put_registers(struct kvm_processor *p, const struct processor_state *s)
{
	const uint64_t *r = s->gpr;
	struct kvm_regs regs = {
		.rax = r[RAX], .rbx = r[RBX], .rcx = r[RCX], .rdx = r[RDX],
		.rsi = r[RSI], .rdi = r[RDI], .rsp = r[RSP], .rbp = r[RBP],
		.r8 = r[R8], .r9 = r[R9], .r10 = r[R10], .r11 = r[R11],
		.r12 = r[R12], .r13 = r[R13], .r14 = r[R14], .r15 = r[R15],
		.rip = s->rip, .rflags = s->rflags,
	};
	must(p, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

void kvm_set_state(struct engine *engine, unsigned processor, const struct processor_state *s)
{
	struct kvm_processor *p = &kvm_engine_of(engine)->processor[processor];
	struct kvm_sregs sregs;
	must(p, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");	/* keeps the APIC base */
	sregs.cs = kvm_segment_from(&s->seg[SEG_CS]);
	sregs.ds = kvm_segment_from(&s->seg[SEG_DS]);
	sregs.es = kvm_segment_from(&s->seg[SEG_ES]);
	sregs.fs = kvm_segment_from(&s->seg[SEG_FS]);
	sregs.gs = kvm_segment_from(&s->seg[SEG_GS]);
	sregs.ss = kvm_segment_from(&s->seg[SEG_SS]);
	sregs.ldt = kvm_segment_from(&s->seg[SEG_LDTR]);
	sregs.tr = kvm_segment_from(&s->seg[SEG_TR]);
	/* VT-x enters no guest without a busy TSS in TR (SDM vol. 3, "Checks
	 * on Guest Segment Registers"); loaders need not have one. */
	if (!sregs.tr.present || sregs.tr.unusable ||
	    (sregs.tr.type != TYPE_TSS16_BUSY && sregs.tr.type != TYPE_TSS_BUSY)) {
		sregs.tr.type = TYPE_TSS_BUSY;
		sregs.tr.present = 1;
		sregs.tr.unusable = 0;
		sregs.tr.s = 0;
	}
	sregs.gdt = (struct kvm_dtable){ .base = s->gdtr.base, .limit = s->gdtr.limit };
	sregs.idt = (struct kvm_dtable){ .base = s->idtr.base, .limit = s->idtr.limit };
	sregs.cr0 = s->cr0;
	sregs.cr2 = s->cr2;
	sregs.cr3 = s->cr3;
	sregs.cr4 = s->cr4;
	sregs.cr8 = s->cr8;
	sregs.efer = s->efer;
	must(p, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	put_registers(p, s);
}

void kvm_get_state(struct engine *engine, unsigned processor, struct processor_state *s)
{
	struct kvm_processor *p = &kvm_engine_of(engine)->processor[processor];
	struct kvm_sregs sregs;
	struct kvm_regs r;
	must(p, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	must(p, KVM_GET_REGS, &r, "KVM_GET_REGS");
	*s = (struct processor_state){
		.gpr = { [RAX] = r.rax, [RBX] = r.rbx, [RCX] = r.rcx, [RDX] = r.rdx,
			 [RSI] = r.rsi, [RDI] = r.rdi, [RSP] = r.rsp, [RBP] = r.rbp,
			 [R8] = r.r8, [R9] = r.r9, [R10] = r.r10, [R11] = r.r11,
			 [R12] = r.r12, [R13] = r.r13, [R14] = r.r14, [R15] = r.r15 },
		.rip = r.rip, .rflags = r.rflags,
		.seg = { [SEG_CS] = kvm_segment_to(&sregs.cs), [SEG_DS] = kvm_segment_to(&sregs.ds),
			 [SEG_ES] = kvm_segment_to(&sregs.es), [SEG_FS] = kvm_segment_to(&sregs.fs),
			 [SEG_GS] = kvm_segment_to(&sregs.gs), [SEG_SS] = kvm_segment_to(&sregs.ss),
			 [SEG_LDTR] = kvm_segment_to(&sregs.ldt),
			 [SEG_TR] = kvm_segment_to(&sregs.tr) },
		.gdtr = { .base = sregs.gdt.base, .limit = sregs.gdt.limit },
		.idtr = { .base = sregs.idt.base, .limit = sregs.idt.limit },
		.cr0 = sregs.cr0, .cr2 = sregs.cr2, .cr3 = sregs.cr3, .cr4 = sregs.cr4,
		.cr8 = sregs.cr8, .efer = sregs.efer,
	};
}

int kvm_preset_msrs(struct kvm_processor *p, struct error *e)
{
	bool expose = p->engine->engine.config.expose_virtualization_extensions;
	struct {
		struct { uint32_t nmsrs, pad; } head;	/* struct kvm_msrs */
		struct kvm_msr_entry entry[3];
	} list = { .head.nmsrs = p->engine->intel ? 3 : 2 };
	list.entry[0] = (struct kvm_msr_entry){ .index = MSR_IA32_MISC_ENABLE,
		.data = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS };
	list.entry[1] = (struct kvm_msr_entry){ .index = MSR_IA32_MTRR_DEF_TYPE,
		.data = MTRR_ENABLED_FIXED_ON_WRITE_BACK };
	list.entry[2] = (struct kvm_msr_entry){ .index = MSR_IA32_FEATURE_CONTROL,
		.data = FEATURE_CONTROL_LOCKED |
			(expose ? FEATURE_CONTROL_VMX_OUTSIDE_SMX : 0) };
	int set = ioctl(p->fd, KVM_SET_MSRS, &list);
	/* Hidden VMX needs no lock: without it there is nothing to lock. */
	if (set == (int)list.head.nmsrs || (set == 2 && !expose))
		return 0;
	if (set < 0 || set >= 3)
		return error_set(e, STATUS_ENGINE, "The kernel answers KVM_SET_MSRS with \"%s\".",
				 strerror(errno));
	return error_set(e, STATUS_ENGINE,
		"KVM refuses MSR %#x = %#llx, which every guest of Nestor's is given.",
		list.entry[set].index, (unsigned long long)list.entry[set].data);
}

bool kvm_in_vmx_operation(struct kvm_processor *p)
{
	struct kvm_engine *g = p->engine;
	if (!g->intel) {
		struct kvm_sregs sregs;
		return !ioctl(p->fd, KVM_GET_SREGS, &sregs) && sregs.efer & EFER_SVME;
	}
	if (!g->nested_state_size)
		return false;
	struct kvm_nested_state *nested = alloc_zeroed(1, g->nested_state_size);
	nested->size = (uint32_t)g->nested_state_size;
	bool result = !ioctl(p->fd, KVM_GET_NESTED_STATE, nested) &&
		nested->format == KVM_STATE_NESTED_FORMAT_VMX &&
		nested->hdr.vmx.vmxon_pa != ~0ull;
	free(nested);
	return result;
}
