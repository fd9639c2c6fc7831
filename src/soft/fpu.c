/* x87 state, and its control instructions in C (fpu.h).
 *
 * FERR# and IRQ 13 are not modelled: with CR0.NE = 0 a pending x87 exception
 * raises #MF as it does with CR0.NE = 1. */
#include "soft/fpu.h"

#include "soft/access.h"
#include "soft/thunk.h"
#include "base/log.h"

#include <stdlib.h>

enum { REGISTER_BYTES = 10, TAG_VALID = 0, TAG_ZERO = 1, TAG_SPECIAL = 2, TAG_EMPTY = 3 };

__thread struct fpu *fpu_live;

void fpu_live_load(struct fpu *f)
{
	if (fpu_live)
		fpu_live_store();
	f->image.mxcsr = MXCSR_INITIAL;
	__asm__ volatile("fxrstor64 %0" : : "m"(f->image)
		: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
		  "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	fpu_live = f;
}

void fpu_live_store(void)
{
	if (!fpu_live)
		return;
	__asm__ volatile("fxsave64 %0; fninit" : "+m"(fpu_live->image));
	fpu_live = NULL;
}

void fpu_create(struct cpu *cpu)
{
	struct error e;
	if (thunk_start(&e))
		panic("%s", e.text);
	cpu->fpu = aligned_alloc(64, align_up(sizeof(*cpu->fpu), 64));
	if (!cpu->fpu)
		panic("out of memory");
	memset(cpu->fpu, 0, sizeof(*cpu->fpu));
	fpu_reset(cpu, false);
}

void fpu_destroy(struct cpu *cpu)
{
	free(fpu_state(cpu));
	cpu->fpu = NULL;
}

void fpu_reset(struct cpu *cpu, bool init)
{
	if (init)
		return;
	fpu_initialize(fpu_state(cpu), true);
	/* Power-on leaves other control and tag words than FNINIT does. */
	cpu->fpu->image.fcw = FCW_RESET;
	cpu->fpu->image.ftw = 0xff;
	memset(cpu->vec, 0, sizeof(cpu->vec));
	cpu->mxcsr = MXCSR_INITIAL;
	cpu->xcr0 = XCR0_X87;
	cpu->xss = 0;
}

static void exchange(struct cpu *cpu, struct state *s)
{
	struct fpu *f = fpu_state(cpu);
	state_field(s, f->image.fcw);
	state_field(s, f->image.fsw);
	state_field(s, f->image.ftw);
	for (unsigned n = 0; n < 8; n++)
		state_bytes(s, f->image.st[n], REGISTER_BYTES);
	state_field(s, f->fip);
	state_field(s, f->fdp);
	state_field(s, f->fop);
	state_field(s, f->fcs);
	state_field(s, f->fds);
	state_field(s, f->fip_linear);
	state_field(s, f->fdp_linear);
	state_bytes(s, cpu->vec, sizeof(cpu->vec));
	state_field(s, cpu->mxcsr);
}

void fpu_save(struct cpu *cpu, struct state *s)
{
	state_section(s, "fpu", 1);
	exchange(cpu, s);
}

int fpu_load(struct cpu *cpu, struct state *s, struct error *e)
{
	struct fpu *f = fpu_state(cpu);
	state_open(s, "fpu");
	exchange(cpu, s);
	if (!s->failed && !fpu_xcr0_valid(cpu->xcr0))
		return error_set(e, STATUS_FILE, "The saved processor has XCR0=%#llx, but this host's "
				 "processor can run only %#llx; use a host with AVX.",
				 (unsigned long long)cpu->xcr0,
				 (unsigned long long)fpu_xcr0_supported());
	/* Thunks load these into the host, which refuses reserved bits. */
	cpu->mxcsr &= fpu_mxcsr_mask();
	f->image.fcw = (uint16_t)((f->image.fcw & FCW_WRITABLE) | FCW_FIXED);
	fpu_summarize(f);
	return state_finish(s, "fpu", e);
}

uint32_t fpu_mxcsr_mask(void)
{
	static uint32_t mask;
	uint32_t m = __atomic_load_n(&mask, __ATOMIC_RELAXED);
	if (!m) {
		struct fxsave_image image __attribute__((aligned(16))) = { 0 };
		__asm__ volatile("fxsave64 %0" : "+m"(image));
		m = image.mxcsr_mask ? image.mxcsr_mask : 0xffbf;	/* SDM vol. 1, "MXCSR_MASK" */
		__atomic_store_n(&mask, m & 0xffff, __ATOMIC_RELAXED);
		m &= 0xffff;	/* bit 17 is another vendor's */
	}
	return m;
}

uint64_t fpu_xcr0_supported(void)
{
	return XCR0_X87 | XCR0_SSE | (thunk_host_has(THUNK_AVX) ? XCR0_AVX : 0);
}

bool fpu_xcr0_valid(uint64_t xcr0)
{
	return (xcr0 & XCR0_X87) && !(xcr0 & ~fpu_xcr0_supported()) &&
		(!(xcr0 & XCR0_AVX) || (xcr0 & XCR0_SSE));
}

/* --- state --- */

void fpu_initialize(struct fpu *f, bool clear_registers)
{
	f->image.fcw = FCW_INITIAL;
	f->image.fsw = 0;
	f->image.ftw = 0;
	f->fop = f->fcs = f->fds = 0;
	f->fip = f->fdp = f->fip_linear = f->fdp_linear = 0;
	if (clear_registers)
		memset(f->image.st, 0, sizeof(f->image.st));
}

bool fpu_x87_initial(const struct fpu *f)
{
	if (f->image.fcw != FCW_INITIAL || f->image.fsw || f->image.ftw || f->fop || f->fip || f->fdp)
		return false;
	static const uint8_t zero[REGISTER_BYTES];
	for (unsigned n = 0; n < 8; n++)
		if (memcmp(f->image.st[n], zero, REGISTER_BYTES))
			return false;
	return true;
}

void fpu_summarize(struct fpu *f)
{
	if (f->image.fsw & ~f->image.fcw & FSW_EXCEPTIONS)
		f->image.fsw |= FSW_ES | FSW_B;
	else
		f->image.fsw &= (uint16_t)~(FSW_ES | FSW_B);
}

/* ST(0) becomes the physical register `top`: the image is relative to it. */
static void set_top(struct fpu *f, unsigned top)
{
	unsigned old = (f->image.fsw & FSW_TOP) >> FSW_TOP_SHIFT;
	uint8_t st[8][16];
	memcpy(st, f->image.st, sizeof(st));
	for (unsigned n = 0; n < 8; n++)
		memcpy(f->image.st[n], st[(n + top - old) & 7], sizeof(st[0]));
	f->image.fsw = (uint16_t)((f->image.fsw & ~FSW_TOP) | top << FSW_TOP_SHIFT);
}

void fpu_enter_mmx(struct fpu *f)
{
	set_top(f, 0);
	f->image.ftw = 0xff;
}

uint16_t fpu_tag_word(const struct fpu *f)
{
	unsigned top = (f->image.fsw & FSW_TOP) >> FSW_TOP_SHIFT;
	uint16_t word = 0;
	for (unsigned physical = 0; physical < 8; physical++) {
		const uint8_t *st = f->image.st[(physical - top) & 7];
		uint64_t significand = load_le(st, 8);
		unsigned exponent = (unsigned)load_le(st + 8, 2) & 0x7fff;
		unsigned tag;
		if (!(f->image.ftw >> physical & 1))
			tag = TAG_EMPTY;
		else if (exponent == 0 && !significand)
			tag = TAG_ZERO;
		else if (exponent == 0 || exponent == 0x7fff || !(significand >> 63))
			tag = TAG_SPECIAL;
		else
			tag = TAG_VALID;
		word |= (uint16_t)(tag << physical * 2);
	}
	return word;
}

static void set_tag_word(struct fpu *f, uint16_t word)
{
	f->image.ftw = 0;
	for (unsigned physical = 0; physical < 8; physical++)
		if ((word >> physical * 2 & 3) != TAG_EMPTY)
			f->image.ftw |= (uint8_t)(1u << physical);
}

/* --- availability --- */

void fpu_sse_unavailable(struct cpu *cpu)
{
	if ((cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR))
		raise_ud(cpu);
	raise_exception(cpu, EXC_NM);
}

void fpu_avx_unavailable(struct cpu *cpu)
{
	if (!(cpu->cr0 & CR0_PE) || (cpu->sysflags & FLAG_VM) || !(cpu->cr4 & CR4_OSXSAVE) ||
	    (cpu->xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX))
		raise_ud(cpu);
	raise_exception(cpu, EXC_NM);
}

void fpu_mmx_unavailable(struct cpu *cpu)
{
	if (cpu->cr0 & CR0_EM)
		raise_ud(cpu);
	raise_exception(cpu, cpu->cr0 & CR0_TS ? EXC_NM : EXC_MF);
}

void fpu_x87_unavailable(struct cpu *cpu)
{
	raise_exception(cpu, cpu->cr0 & (CR0_EM | CR0_TS) ? EXC_NM : EXC_MF);
}

/* --- control instructions --- */

void op_fninit(struct cpu *cpu, const struct insn *i)
{
	fpu_check_x87_nowait(cpu);
	struct fpu *f = fpu_state(cpu);
	/* TOP becomes 0 and the registers keep their contents where they are. */
	set_top(f, 0);
	fpu_initialize(f, false);
}

void op_fnclex(struct cpu *cpu, const struct insn *i)
{
	fpu_check_x87_nowait(cpu);
	fpu_state(cpu)->image.fsw &= (uint16_t)~(FSW_EXCEPTIONS | FSW_ES | FSW_B | BIT(6));
}

void op_fnstcw(struct cpu *cpu, const struct insn *i)
{
	fpu_check_x87_nowait(cpu);
	linear_write(cpu, insn_linear(cpu, i, 2, true), cpu->fpu->image.fcw, 2);
}

void op_fnstsw(struct cpu *cpu, const struct insn *i)
{
	fpu_check_x87_nowait(cpu);
	uint16_t fsw = cpu->fpu->image.fsw;
	if (i->kind[0] == OPERAND_MEM)
		linear_write(cpu, insn_linear(cpu, i, 2, true), fsw, 2);
	else
		cpu->r[RAX] = (cpu->r[RAX] & ~0xffffull) | fsw;
}

static void set_control(struct fpu *f, uint64_t fcw)
{
	f->image.fcw = (uint16_t)((fcw & FCW_WRITABLE) | FCW_FIXED);
	fpu_summarize(f);
}

/* FWAIT: #NM needs MP as well as TS (SDM vol. 3, "CR0.TS"). */
void op_fwait(struct cpu *cpu, const struct insn *i)
{
	if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		raise_exception(cpu, EXC_NM);
	if (cpu->fpu->image.fsw & FSW_ES)
		raise_exception(cpu, EXC_MF);
}

void op_fnop(struct cpu *cpu, const struct insn *i)
{
	fpu_check_x87(cpu);
}

/* --- FNSTENV, FLDENV, FNSAVE, FRSTOR: SDM vol. 1, "Saving the x87 FPU's
 * State with FSTENV/FNSTENV and FSAVE/FNSAVE" --- */

enum { ENVIRONMENT_32 = 28, ENVIRONMENT_16 = 14, REGISTERS_BYTES = 8 * REGISTER_BYTES,
       STATE_MAX = ENVIRONMENT_32 + REGISTERS_BYTES };

/* Operand size 16 has the short format. */
static unsigned environment_size(const struct insn *i)
{
	return i->size == 2 ? ENVIRONMENT_16 : ENVIRONMENT_32;
}

static void write_all(struct cpu *cpu, uint64_t linear, const uint8_t *from, unsigned n)
{
	/* Both pages first, so that a fault leaves nothing half done. */
	(void)linear_write_pointer(cpu, linear, 1);
	linear_commit(cpu);
	(void)linear_write_pointer(cpu, (linear + n - 1) & ~PAGE_OFFSET_MASK, 1);
	linear_commit(cpu);
	for (unsigned at = 0; at < n; at += 2)
		linear_write(cpu, linear + at, load_le(from + at, 2), 2);
}

static void read_all(struct cpu *cpu, uint64_t linear, uint8_t *to, unsigned n)
{
	for (unsigned at = 0; at < n; at += 2)
		store_le(to + at, linear_read(cpu, linear + at, 2), 2);
}

static bool real_format(const struct cpu *cpu)
{
	return !cpu_protected(cpu) || cpu_v86(cpu);
}

static void put_environment(const struct cpu *cpu, uint8_t *to, unsigned size)
{
	const struct fpu *f = cpu->fpu;
	unsigned w = size == ENVIRONMENT_16 ? 2 : 4;
	bool real = real_format(cpu);
	uint64_t high = w == 4 ? 0xffff0000ull : 0;	/* reserved halves are ones */
	uint64_t fip = real ? f->fip_linear : f->fip, fdp = real ? f->fdp_linear : f->fdp;
	uint64_t ip_high, dp_high;
	if (!real) {	/* selectors are deprecated: 0 */
		ip_high = w == 4 ? (uint64_t)f->fop << 16 : 0;
		dp_high = 0;
	} else {
		ip_high = (fip >> 16 & 0xffff) << 12 | f->fop;
		dp_high = (fdp >> 16 & 0xffff) << 12;
	}
	if (real && w == 4) {
		fip = (fip & 0xffff) | high;
		fdp = (fdp & 0xffff) | high;
	}
	const uint64_t field[7] = {
		f->image.fcw | high, f->image.fsw | high, fpu_tag_word(f) | high,
		fip, ip_high, fdp, w == 4 && !real ? high : dp_high,
	};
	for (unsigned n = 0; n < 7; n++)
		store_le(to + n * w, field[n], w);
}

static void get_environment(struct cpu *cpu, const uint8_t *from, unsigned size)
{
	struct fpu *f = cpu->fpu;
	unsigned w = size == ENVIRONMENT_16 ? 2 : 4;
	uint64_t field[7];
	for (unsigned n = 0; n < 7; n++)
		field[n] = load_le(from + n * w, w);
	f->image.fsw = (uint16_t)field[1];
	set_tag_word(f, (uint16_t)field[2]);
	set_control(f, field[0]);
	if (real_format(cpu)) {
		f->fip = (field[3] & 0xffff) | (field[4] >> 12 & 0xffff) << 16;
		f->fdp = (field[5] & 0xffff) | (field[6] >> 12 & 0xffff) << 16;
		f->fop = field[4] & 0x7ff;
	} else {
		f->fip = field[3];
		f->fdp = field[5];
		if (w == 4)
			f->fop = field[4] >> 16 & 0x7ff;
	}
	f->fip_linear = f->fip;
	f->fdp_linear = f->fdp;
	f->fcs = f->fds = 0;
}

void op_fnstenv(struct cpu *cpu, const struct insn *i)
{
	uint8_t environment[ENVIRONMENT_32];
	unsigned size = environment_size(i);
	fpu_check_x87_nowait(cpu);
	struct fpu *f = fpu_state(cpu);
	put_environment(cpu, environment, size);
	write_all(cpu, insn_linear(cpu, i, size, true), environment, size);
	/* All exceptions are masked afterwards. */
	f->image.fcw |= FSW_EXCEPTIONS;
	fpu_summarize(f);
}

void op_fldenv(struct cpu *cpu, const struct insn *i)
{
	uint8_t environment[ENVIRONMENT_32];
	unsigned size = environment_size(i);
	fpu_check_x87(cpu);
	read_all(cpu, insn_linear(cpu, i, size, false), environment, size);
	set_top(fpu_state(cpu), (unsigned)load_le(environment + size / 7, 2) >> FSW_TOP_SHIFT & 7);
	get_environment(cpu, environment, size);
}

void op_fnsave(struct cpu *cpu, const struct insn *i)
{
	uint8_t state[STATE_MAX];
	unsigned size = environment_size(i);
	fpu_check_x87_nowait(cpu);
	struct fpu *f = fpu_state(cpu);
	put_environment(cpu, state, size);
	for (unsigned n = 0; n < 8; n++)
		memcpy(state + size + n * REGISTER_BYTES, f->image.st[n], REGISTER_BYTES);
	size += REGISTERS_BYTES;
	write_all(cpu, insn_linear(cpu, i, size, true), state, size);
	set_top(f, 0);
	fpu_initialize(f, false);
}

void op_frstor(struct cpu *cpu, const struct insn *i)
{
	uint8_t state[STATE_MAX];
	unsigned size = environment_size(i);
	fpu_check_x87(cpu);
	read_all(cpu, insn_linear(cpu, i, size + REGISTERS_BYTES, false), state,
		 size + REGISTERS_BYTES);
	struct fpu *f = fpu_state(cpu);
	get_environment(cpu, state, size);
	for (unsigned n = 0; n < 8; n++)
		memcpy(f->image.st[n], state + size + n * REGISTER_BYTES, REGISTER_BYTES);
}
