/* The local APICs, driven by their registers, on a clock that the test moves. */
#include "base/bits.h"
#include "soft/lapic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { PROCESSORS = 4 };

/* Offsets in the page (SDM vol. 3, "Local APIC Register Address Map"). */
enum {
	ID = 0x20, VERSION = 0x30, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0,
	SVR = 0xf0, ISR = 0x100, TMR = 0x180, IRR = 0x200, ESR = 0x280, ICR_LOW = 0x300,
	ICR_HIGH = 0x310, LVT_TIMER = 0x320, LVT_PERF = 0x340, LVT_LINT0 = 0x350,
	LVT_LINT1 = 0x360, LVT_ERROR = 0x370, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0,
};
enum {
	MASKED = 1 << 16, PERIODIC = 1 << 17, DEADLINE = 1 << 18, DIVIDE_BY_1 = 0xb,
	DIVIDE_BY_16 = 3, ENABLED = 0x1ff,
};
enum { MSR_BASE = 0x1b, MSR_DEADLINE = 0x6e0, MSR_X2 = 0x800 };

struct machine {
	pthread_mutex_t lock;
	struct clock *clock;
	struct lapic_set *set;
	unsigned count[PROCESSORS][LAPIC_SIPI + 1];
	uint8_t sipi_vector, eoi_vector;
	unsigned eois;
};

static void on_eoi(void *owner, uint8_t vector)
{
	struct machine *m = owner;
	m->eois++;
	m->eoi_vector = vector;
}

static void on_notify(void *owner, unsigned processor, enum lapic_event event, uint8_t vector)
{
	struct machine *m = owner;
	assert_true(processor < PROCESSORS);
	m->count[processor][event]++;
	if (event == LAPIC_SIPI)
		m->sipi_vector = vector;
}

static int setup(void **state)
{
	struct machine *m = calloc(1, sizeof *m);
	pthread_mutex_init(&m->lock, NULL);
	m->clock = clock_create(&m->lock, true);
	struct lapic_host host = { m->clock, &m->lock, m, on_eoi, on_notify, 46 };
	m->set = lapic_set_create(PROCESSORS, &host);
	for (unsigned i = 0; i < PROCESSORS; i++)
		lapic_write(lapic_get(m->set, i), SVR, ENABLED);
	memset(m->count, 0, sizeof m->count);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct machine *m = *state;
	lapic_set_destroy(m->set);
	clock_destroy(m->clock);
	pthread_mutex_destroy(&m->lock);
	free(m);
	return 0;
}

static struct lapic *processor(struct machine *m, unsigned i)
{
	return lapic_get(m->set, i);
}

static void msi(struct machine *m, uint64_t address, uint32_t data)
{
	pthread_mutex_lock(&m->lock);
	lapic_msi(m->set, address, data);
	pthread_mutex_unlock(&m->lock);
}

/* Fixed, edge, to one processor. */
static void send_vector(struct machine *m, unsigned to, uint8_t vector)
{
	msi(m, 0xfee00000 | to << 12, vector);
}

/* Let time pass in steps, as an engine would. */
static void pass(struct machine *m, uint64_t ns)
{
	uint64_t end = clock_now(m->clock) + ns;
	while (clock_now(m->clock) < end) {
		uint64_t next = clock_next_deadline(m->clock);
		if (next > end)
			next = end;
		if (next > clock_now(m->clock))
			clock_advance(m->clock, next - clock_now(m->clock));
		clock_run_due(m->clock);
	}
}

static unsigned take(struct lapic *l)
{
	unsigned n = 0;
	for (int v; (v = lapic_pending(l)) >= 0; n++) {
		lapic_acknowledge(l, (uint8_t)v);
		if (lapic_base(l) & APIC_BASE_EXTD)
			lapic_msr_write(l, MSR_X2 + (EOI >> 4), 0);
		else
			lapic_write(l, EOI, 0);
	}
	return n;
}

static bool read_msr(struct lapic *l, uint32_t msr, uint64_t *v)
{
	return lapic_msr_read(l, msr, v);
}

static void enter_x2apic(struct lapic *l)
{
	assert_true(lapic_msr_write(l, MSR_BASE, lapic_base(l) | APIC_BASE_EXTD));
}

static void reset_state(void **state)
{
	struct machine *m = *state;
	for (unsigned i = 0; i < PROCESSORS; i++) {
		struct lapic *l = processor(m, i);
		lapic_reset(l, false);
		assert_int_equal(lapic_base(l), 0xfee00800 | (i ? 0 : 0x100));
		assert_int_equal(lapic_read(l, ID), i << 24);
		assert_int_equal(lapic_read(l, VERSION) & 0xff0000, 0x50000);
		assert_int_equal(lapic_read(l, SVR), 0xff);
		assert_int_equal(lapic_read(l, DFR), 0xffffffff);
		for (uint32_t at = LVT_TIMER; at <= LVT_ERROR; at += 0x10)
			assert_int_equal(lapic_read(l, at), MASKED);
		assert_int_equal(lapic_pending(l), -1);
		assert_false(lapic_extint_accepted(l));
	}
}

static void init_keeps_base(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 1);
	enter_x2apic(l);
	uint64_t base = lapic_base(l), value;
	assert_true(lapic_msr_write(l, MSR_X2 + 0x08, 0x20));
	lapic_reset(l, true);
	assert_int_equal(lapic_base(l), base);
	assert_true(read_msr(l, MSR_X2 + 0x08, &value) && value == 0);
	assert_true(read_msr(l, MSR_X2 + 0x0f, &value) && value == 0xff);
	lapic_reset(l, false);
	assert_int_equal(lapic_base(l), 0xfee00800);
}

static void priority_and_eoi(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	send_vector(m, 0, 0x31);
	send_vector(m, 0, 0x52);
	assert_int_equal(lapic_pending(l), 0x52);
	assert_int_equal(lapic_read(l, IRR + 0x10), 1u << 17);
	assert_int_equal(lapic_read(l, IRR + 0x20), 1u << 18);
	lapic_acknowledge(l, 0x52);
	assert_int_equal(lapic_read(l, ISR + 0x20), 1u << 18);
	assert_int_equal(lapic_read(l, PPR), 0x50);
	assert_int_equal(lapic_pending(l), -1);
	send_vector(m, 0, 0x5f);	/* same class: waits */
	assert_int_equal(lapic_pending(l), -1);
	send_vector(m, 0, 0x60);
	assert_int_equal(lapic_pending(l), 0x60);
	lapic_acknowledge(l, 0x60);
	lapic_write(l, EOI, 0);
	assert_int_equal(lapic_pending(l), -1);
	lapic_write(l, EOI, 0);
	assert_int_equal(lapic_pending(l), 0x5f);
	assert_int_equal(m->eois, 0);	/* edges tell nobody */
}

static void acknowledge_needs_request(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_acknowledge(l, 0x40);
	assert_int_equal(lapic_read(l, ISR + 0x20), 0);
}

static void task_priority(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, TPR, 0x4f);
	assert_int_equal(lapic_get_cr8(l), 4);
	assert_int_equal(lapic_read(l, PPR), 0x4f);
	send_vector(m, 0, 0x4e);
	assert_int_equal(lapic_pending(l), -1);
	assert_int_equal(m->count[0][LAPIC_INTERRUPT], 0);
	lapic_set_cr8(l, 3);
	assert_int_equal(lapic_read(l, TPR), 0x30);
	assert_int_equal(lapic_pending(l), 0x4e);
	assert_int_equal(m->count[0][LAPIC_INTERRUPT], 1);
	lapic_set_cr8(l, 15);
	assert_int_equal(lapic_pending(l), -1);
}

static void level_eoi_is_broadcast(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	msi(m, 0xfee00000, 0xc041);
	assert_int_equal(lapic_read(l, TMR + 0x20), 2);
	lapic_acknowledge(l, 0x41);
	lapic_write(l, EOI, 0);
	assert_int_equal(m->eois, 1);
	assert_int_equal(m->eoi_vector, 0x41);
	/* Suppressed by SVR bit 12. */
	lapic_write(l, SVR, ENABLED | 1 << 12);
	msi(m, 0xfee00000, 0xc041);
	lapic_acknowledge(l, 0x41);
	lapic_write(l, EOI, 0);
	assert_int_equal(m->eois, 1);
	/* An edge of the same vector clears TMR again. */
	lapic_write(l, SVR, ENABLED);
	send_vector(m, 0, 0x41);
	assert_int_equal(lapic_read(l, TMR + 0x20), 0);
}

static void software_disable(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, LVT_LINT0, 0x700);
	assert_true(lapic_extint_accepted(l));
	assert_int_equal(m->count[0][LAPIC_INTERRUPT], 1);	/* INTR may be waiting */
	send_vector(m, 0, 0x33);
	lapic_write(l, SVR, 0xff);
	assert_false(lapic_extint_accepted(l));
	assert_int_equal(lapic_read(l, LVT_LINT0), 0x700 | MASKED);
	lapic_write(l, LVT_LINT0, 0x700);	/* the mask cannot be cleared now */
	assert_int_equal(lapic_read(l, LVT_LINT0), 0x700 | MASKED);
	assert_int_equal(lapic_pending(l), 0x33);	/* what was there stays */
	send_vector(m, 0, 0x44);
	assert_int_equal(lapic_pending(l), 0x33);
	msi(m, 0xfee00000, 0x400);
	assert_int_equal(m->count[0][LAPIC_NMI], 1);	/* NMI, INIT, SIPI still work */
	lapic_write(l, SVR, ENABLED);
	lapic_write(l, LVT_LINT0, 0x700);
	assert_true(lapic_extint_accepted(l));
	send_vector(m, 0, 0x44);
	assert_int_equal(lapic_pending(l), 0x44);
}

static void global_disable(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	assert_true(lapic_msr_write(l, MSR_BASE, 0xfee00100));
	assert_true(lapic_extint_accepted(l));
	send_vector(m, 0, 0x33);
	assert_int_equal(lapic_pending(l), -1);
	assert_int_equal(lapic_read(l, SVR), 0xffffffff);
	assert_true(lapic_msr_write(l, MSR_BASE, 0xfee00900));
	assert_int_equal(lapic_read(l, SVR), 0xff);
}

static void base_transitions(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	const uint64_t page = 0xfee00100;
	static const struct { uint64_t from, to; bool legal; } t[] = {
		{ 0x800, 0x800, true }, { 0x800, 0xc00, true }, { 0xc00, 0xc00, true },
		{ 0xc00, 0x800, false }, { 0xc00, 0x400, false }, { 0xc00, 0x000, true },
		{ 0x000, 0xc00, false }, { 0x000, 0x400, false }, { 0x000, 0x800, true },
		{ 0x800, 0x400, false }, { 0x800, 0x000, true },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		lapic_reset(l, false);
		if (t[i].from == 0xc00)
			enter_x2apic(l);
		if (t[i].from == 0)
			assert_true(lapic_msr_write(l, MSR_BASE, page));
		uint64_t before = lapic_base(l);
		assert_int_equal(lapic_msr_write(l, MSR_BASE, page | t[i].to), t[i].legal);
		assert_int_equal(lapic_base(l), t[i].legal ? page | t[i].to : before);
	}
	lapic_reset(l, false);
	assert_false(lapic_msr_write(l, MSR_BASE, 0xfee00801));
	assert_false(lapic_msr_write(l, MSR_BASE, 0xfee00a00));
	assert_false(lapic_msr_write(l, MSR_BASE, 0xfee00900 | BIT(46)));
	assert_true(lapic_msr_write(l, MSR_BASE, 0xfee00900 | BIT(45)));
}

static void spurious_and_errors(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, LVT_ERROR, 0x37);
	send_vector(m, 0, 5);
	assert_int_equal(lapic_pending(l), 0x37);
	assert_int_equal(lapic_read(l, ESR), 0);	/* latched by a write only */
	lapic_write(l, ESR, 0);
	assert_int_equal(lapic_read(l, ESR), 1 << 6);
	lapic_write(l, ESR, 0);
	assert_int_equal(lapic_read(l, ESR), 0);
	lapic_write(l, ICR_LOW, 0x4000f);
	lapic_read(l, 0x040);
	lapic_write(l, ESR, 0);
	assert_int_equal(lapic_read(l, ESR), 1 << 5 | 1 << 7);
	/* An illegal vector in the error entry itself ends somewhere. */
	lapic_write(l, LVT_ERROR, 0x03);
	send_vector(m, 0, 5);
	lapic_write(l, ESR, 0);
	assert_int_equal(lapic_read(l, ESR), 1 << 6);
	lapic_write(l, SVR, 0x1e7);
	assert_int_equal(lapic_read(l, SVR), 0x1e7);
}

static unsigned receivers(struct machine *m, uint8_t vector)
{
	unsigned mask = 0;
	for (unsigned i = 0; i < PROCESSORS; i++)
		if (lapic_pending(processor(m, i)) == vector) {
			mask |= 1u << i;
			take(processor(m, i));
		}
	return mask;
}

static void physical_destinations(void **state)
{
	struct machine *m = *state;
	send_vector(m, 2, 0x40);
	assert_int_equal(receivers(m, 0x40), 1 << 2);
	send_vector(m, 0xff, 0x41);
	assert_int_equal(receivers(m, 0x41), 0xf);
	send_vector(m, 9, 0x42);
	assert_int_equal(receivers(m, 0x42), 0);
}

static void logical_destinations(void **state)
{
	struct machine *m = *state;
	for (unsigned i = 0; i < PROCESSORS; i++)
		lapic_write(processor(m, i), LDR, 1u << (24 + i));
	msi(m, 0xfee00000 | 5 << 12 | 4, 0x40);
	assert_int_equal(receivers(m, 0x40), 5);
	for (unsigned i = 0; i < PROCESSORS; i++) {
		lapic_write(processor(m, i), DFR, 0x0fffffff);	/* cluster model */
		lapic_write(processor(m, i), LDR, (i / 2) << 28 | 1u << (24 + i % 2));
	}
	msi(m, 0xfee00000 | 0x13 << 12 | 4, 0x41);
	assert_int_equal(receivers(m, 0x41), 0xc);
	msi(m, 0xfee00000 | 0xf1 << 12 | 4, 0x42);
	assert_int_equal(receivers(m, 0x42), 5);
	assert_int_equal(lapic_read(processor(m, 0), DFR), 0x0fffffff);
}

static void lowest_priority(void **state)
{
	struct machine *m = *state;
	unsigned seen = 0;
	for (unsigned i = 0; i < PROCESSORS; i++)
		lapic_write(processor(m, i), LDR, 1u << (24 + i));
	lapic_write(processor(m, 0), TPR, 0x20);
	lapic_write(processor(m, 1), TPR, 0x10);
	lapic_write(processor(m, 3), TPR, 0x10);
	msi(m, 0xfee00000 | 0xff << 12 | 4, 0x140);
	assert_int_equal(receivers(m, 0x40), 1 << 2);
	lapic_write(processor(m, 2), TPR, 0x20);
	for (int i = 0; i < 2; i++) {	/* equals take turns */
		msi(m, 0xfee00000 | 0xff << 12 | 4, 0x140);
		seen |= receivers(m, 0x40);
	}
	assert_int_equal(seen, 1 << 1 | 1 << 3);
	lapic_write(processor(m, 1), SVR, 0xff);	/* software-disabled ones do not take part */
	lapic_write(processor(m, 3), SVR, 0xff);
	msi(m, 0xfee00000 | 0xff << 12 | 4, 0x140);
	unsigned who = receivers(m, 0x40);
	assert_true(who == 1 || who == 4);
}

static void shorthands(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 1);
	lapic_write(l, ICR_LOW, 0x40000 | 0x50);
	assert_int_equal(receivers(m, 0x50), 1 << 1);
	lapic_write(l, ICR_LOW, 0x80000 | 0x51);
	assert_int_equal(receivers(m, 0x51), 0xf);
	lapic_write(l, ICR_LOW, 0xc0000 | 0x52);
	assert_int_equal(receivers(m, 0x52), 0xd);
	lapic_write(l, ICR_HIGH, 3u << 24);
	lapic_write(l, ICR_LOW, 0x53);
	assert_int_equal(receivers(m, 0x53), 1 << 3);
	assert_int_equal(lapic_read(l, ICR_LOW), 0x53);	/* delivery status: idle */
	lapic_write(l, ICR_LOW, 0xc0000 | 0x400);
	for (unsigned i = 0; i < PROCESSORS; i++)
		assert_int_equal(m->count[i][LAPIC_NMI], i != 1);
}

static void init_and_startup(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, ICR_LOW, 0xc0000 | 0xc500);	/* INIT, level, assert, all but self */
	for (unsigned i = 0; i < PROCESSORS; i++)
		assert_int_equal(m->count[i][LAPIC_INIT], i != 0);
	lapic_write(l, ICR_LOW, 0xc0000 | 0x8500);	/* level de-assert does nothing */
	assert_int_equal(m->count[1][LAPIC_INIT], 1);
	lapic_write(l, ICR_HIGH, 2u << 24);
	lapic_write(l, ICR_LOW, 0x69a);
	assert_int_equal(m->count[2][LAPIC_SIPI], 1);
	assert_int_equal(m->sipi_vector, 0x9a);
	assert_int_equal(m->count[1][LAPIC_SIPI], 0);
}

static void nmi_wire(void **state)
{
	struct machine *m = *state;
	lapic_write(processor(m, 0), LVT_LINT1, 0x400);
	lapic_write(processor(m, 1), LVT_LINT1, 0x45);	/* as a fixed interrupt */
	assert_true(lapic_msr_write(processor(m, 3), MSR_BASE, 0xfee00000));
	pthread_mutex_lock(&m->lock);
	lapic_nmi(m->set);
	pthread_mutex_unlock(&m->lock);
	assert_int_equal(m->count[0][LAPIC_NMI], 1);
	assert_int_equal(m->count[1][LAPIC_NMI], 0);
	assert_int_equal(lapic_pending(processor(m, 1)), 0x45);
	assert_int_equal(m->count[2][LAPIC_NMI], 0);	/* masked */
	assert_int_equal(m->count[3][LAPIC_NMI], 1);	/* no APIC in between */
}

static void virtual_wire(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_reset(l, false);
	lapic_preset_virtual_wire(l);
	assert_true(lapic_extint_accepted(l));
	pthread_mutex_lock(&m->lock);
	lapic_nmi(m->set);
	pthread_mutex_unlock(&m->lock);
	assert_int_equal(m->count[0][LAPIC_NMI], 1);
}

static void x2apic_registers(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 2);
	uint64_t value;
	assert_false(read_msr(l, MSR_X2 + 0x02, &value));	/* not in this mode yet */
	enter_x2apic(l);
	assert_int_equal(lapic_read(l, ID), 0xffffffff);	/* the page is gone */
	assert_true(read_msr(l, MSR_X2 + 0x02, &value) && value == 2);
	assert_true(read_msr(l, MSR_X2 + 0x0d, &value) && value == 1 << 2);
	static const struct { uint32_t reg; uint64_t value; bool ok; } write[] = {
		{ 0x02, 0, false }, { 0x03, 0, false }, { 0x08, 0xff, true }, { 0x08, 0x100, false },
		{ 0x08, 0, true }, { 0x0a, 0, false }, { 0x0b, 0, true }, { 0x0b, 1, false },
		{ 0x0d, 0, false }, { 0x0e, 0xffffffff, false }, { 0x0f, 0x11ff, true },
		{ 0x0f, 0x21ff, false }, { 0x10, 0, false }, { 0x20, 0, false }, { 0x28, 0, true },
		{ 0x28, 1, false }, { 0x2f, 0, false }, { 0x30, 0x1000, false }, { 0x30, 0x100000, false },
		{ 0x30, 0x700000050, true }, { 0x31, 0, false }, { 0x32, 0x10031, true },
		{ 0x32, 0x80031, false }, { 0x32, 0x131, false }, { 0x35, 0x1a7ff, true },
		{ 0x35, 0x20000, false }, { 0x37, 0x10700, false }, { 0x38, 1, true },
		{ 0x38, BIT(32), false }, { 0x39, 0, false }, { 0x3e, 0xb, true }, { 0x3e, 4, false },
		{ 0x3f, 0x60, true }, { 0x3f, 0x160, false }, { 0x40, 0, false }, { 0xff, 0, false },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(write); i++)
		assert_int_equal(lapic_msr_write(l, MSR_X2 + write[i].reg, write[i].value),
				 write[i].ok);
	static const uint32_t unreadable[] = { 0x00, 0x09, 0x0b, 0x0c, 0x0e, 0x2f, 0x31, 0x3f, 0x40 };
	for (unsigned i = 0; i < ARRAY_SIZE(unreadable); i++)
		assert_false(read_msr(l, MSR_X2 + unreadable[i], &value));
	assert_int_equal(lapic_pending(l), 0x60);	/* self-IPI */
}

static void x2apic_destinations(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	for (unsigned i = 0; i < PROCESSORS; i++)
		enter_x2apic(processor(m, i));
	assert_true(lapic_msr_write(l, MSR_X2 + 0x30, 3ull << 32 | 0x40));
	assert_int_equal(receivers(m, 0x40), 1 << 3);
	assert_true(lapic_msr_write(l, MSR_X2 + 0x30, 0xffffffffull << 32 | 0x41));
	assert_int_equal(receivers(m, 0x41), 0xf);
	assert_true(lapic_msr_write(l, MSR_X2 + 0x30, 0xffull << 32 | 0x42));
	assert_int_equal(receivers(m, 0x42), 0);	/* 255 is an ID like others here */
	assert_true(lapic_msr_write(l, MSR_X2 + 0x30, 6ull << 32 | 0x843));
	assert_int_equal(receivers(m, 0x43), 6);
	assert_true(lapic_msr_write(l, MSR_X2 + 0x30, 0x10006ull << 32 | 0x844));
	assert_int_equal(receivers(m, 0x44), 0);	/* another cluster */
	send_vector(m, 0xff, 0x45);
	assert_int_equal(receivers(m, 0x45), 0xf);
	uint64_t value;
	assert_true(read_msr(l, MSR_X2 + 0x30, &value));
	assert_int_equal(value, 0x1000600000844);
}

static void one_shot_timer(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, LVT_TIMER, 0x30);
	lapic_write(l, DIVIDE, DIVIDE_BY_16);
	lapic_write(l, INITIAL, 1000);
	pass(m, 8000);
	assert_int_equal(lapic_read(l, CURRENT), 500);
	assert_int_equal(lapic_read(l, INITIAL), 1000);
	pass(m, 7999);
	assert_int_equal(lapic_pending(l), -1);
	pass(m, 1);
	assert_int_equal(lapic_pending(l), 0x30);
	assert_int_equal(lapic_read(l, CURRENT), 0);
	take(l);
	pass(m, 100000);
	assert_int_equal(lapic_pending(l), -1);
}

static void periodic_timer(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	unsigned n = 0;
	lapic_write(l, LVT_TIMER, 0x30 | PERIODIC);
	lapic_write(l, DIVIDE, DIVIDE_BY_1);
	lapic_write(l, INITIAL, 1000000);
	for (int i = 0; i < 10; i++) {
		pass(m, 1000000);
		n += take(l);
	}
	assert_int_equal(n, 10);
	pass(m, 300000);
	assert_int_equal(lapic_read(l, CURRENT), 700000);
	lapic_write(l, INITIAL, 0);	/* stops it */
	pass(m, 5000000);
	assert_int_equal(lapic_pending(l), -1);
}

static void tiny_period_is_coalesced(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	unsigned n = 0;
	lapic_write(l, LVT_TIMER, 0x30 | PERIODIC);
	lapic_write(l, DIVIDE, DIVIDE_BY_1);
	lapic_write(l, INITIAL, 1);
	for (int i = 0; i < 10000; i++) {
		pass(m, 100);
		n += take(l);
	}
	/* 1 ms: at most one tick in 50 us. */
	assert_in_range(n, 18, 21);
}

static void missed_periods_are_merged(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, LVT_TIMER, 0x30 | PERIODIC);
	lapic_write(l, DIVIDE, DIVIDE_BY_1);
	lapic_write(l, INITIAL, 100000);
	clock_advance(m->clock, 1050000);
	clock_run_due(m->clock);
	assert_int_equal(take(l), 1);
	assert_int_equal(clock_next_deadline(m->clock), 1100000);	/* in phase */
}

static void deadline_timer(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	uint64_t value;
	assert_true(lapic_msr_write(l, MSR_DEADLINE, 5));	/* ignored in other modes */
	assert_true(read_msr(l, MSR_DEADLINE, &value) && value == 0);
	lapic_write(l, LVT_TIMER, 0x31 | DEADLINE);
	lapic_write(l, INITIAL, 100);	/* ignored in this one */
	assert_int_equal(lapic_read(l, INITIAL), 0);
	lapic_set_tsc_offset(l, 1000);
	assert_true(lapic_msr_write(l, MSR_DEADLINE, 1000 + 20000));
	pass(m, 9999);
	assert_int_equal(lapic_pending(l), -1);
	assert_true(read_msr(l, MSR_DEADLINE, &value) && value == 21000);
	pass(m, 1);
	assert_int_equal(lapic_pending(l), 0x31);
	assert_true(read_msr(l, MSR_DEADLINE, &value) && value == 0);
	take(l);
	/* In the past: at once. */
	assert_true(lapic_msr_write(l, MSR_DEADLINE, 1));
	assert_int_equal(take(l), 1);
	/* 0 disarms; a later deadline replaces an earlier one, and the reverse. */
	assert_true(lapic_msr_write(l, MSR_DEADLINE, 41000));
	assert_true(lapic_msr_write(l, MSR_DEADLINE, 0));
	pass(m, 50000);
	assert_int_equal(take(l), 0);
	uint64_t now = clock_now(m->clock) * 2 + 1000;
	assert_true(lapic_msr_write(l, MSR_DEADLINE, now + 2000));
	assert_true(lapic_msr_write(l, MSR_DEADLINE, now + 4000));
	pass(m, 1999);
	assert_int_equal(take(l), 0);
	pass(m, 1);
	assert_int_equal(take(l), 1);
	assert_true(lapic_msr_write(l, MSR_DEADLINE, now + 40000));
	assert_true(lapic_msr_write(l, MSR_DEADLINE, now + 6000));
	pass(m, 1000);
	assert_int_equal(take(l), 1);
	/* The far end of time neither fires nor overflows. */
	assert_true(lapic_msr_write(l, MSR_DEADLINE, UINT64_MAX));
	pass(m, 1000000);
	assert_int_equal(take(l), 0);
	/* A change of mode disarms. */
	lapic_write(l, LVT_TIMER, 0x31);
	assert_true(read_msr(l, MSR_DEADLINE, &value) && value == 0);
}

static void moved_tsc_moves_deadline(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, LVT_TIMER, 0x31 | DEADLINE);
	assert_true(lapic_msr_write(l, MSR_DEADLINE, 20000));
	lapic_set_tsc_offset(l, 10000);
	pass(m, 5000);
	assert_int_equal(take(l), 1);
}

static void masked_timer_is_silent(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, LVT_TIMER, 0x30 | MASKED);
	lapic_write(l, DIVIDE, DIVIDE_BY_1);
	lapic_write(l, INITIAL, 1000);
	pass(m, 2000);
	assert_int_equal(lapic_pending(l), -1);
	assert_int_equal(lapic_read(l, CURRENT), 0);
}

static void divider_change_keeps_count(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0);
	lapic_write(l, LVT_TIMER, 0x30);
	lapic_write(l, DIVIDE, DIVIDE_BY_1);
	lapic_write(l, INITIAL, 1000);
	pass(m, 400);
	lapic_write(l, DIVIDE, DIVIDE_BY_16);
	assert_int_equal(lapic_read(l, CURRENT), 600);
	pass(m, 9599);
	assert_int_equal(lapic_pending(l), -1);
	pass(m, 1);
	assert_int_equal(lapic_pending(l), 0x30);
}

static void save_and_load(void **state)
{
	struct machine *m = *state;
	struct lapic *l = processor(m, 0), *other = processor(m, 1);
	struct state s = { 0 };
	struct error e;
	send_vector(m, 0, 0x77);
	lapic_acknowledge(l, 0x77);
	send_vector(m, 0, 0x99);
	lapic_write(l, LVT_TIMER, 0xa0 | PERIODIC);
	lapic_write(l, DIVIDE, DIVIDE_BY_1);
	lapic_write(l, INITIAL, 500000);
	pass(m, 200000);
	lapic_save(l, &s);
	assert_int_equal(lapic_load(other, &s, &e), 0);
	assert_int_equal(s.at, s.size);
	assert_int_equal(lapic_pending(other), 0x99);
	assert_int_equal(lapic_read(other, CURRENT), 300000);
	assert_int_equal(lapic_read(other, ISR + 0x30), 1u << 23);
	pass(m, 300000);
	assert_int_equal(lapic_pending(other), 0xa0);
	state_free(&s);
}

static void damaged_state_is_refused(void **state)
{
	struct machine *m = *state;
	struct state s = { 0 };
	struct error e;
	lapic_save(processor(m, 0), &s);
	for (size_t n = 0; n < s.size; n++) {
		struct state cut = { .data = s.data, .size = n };
		assert_int_equal(lapic_load(processor(m, 1), &cut, &e), -1);
		assert_int_equal(e.status, STATUS_FILE);
	}
	state_free(&s);
}

/* Random accesses to every register: no crash, no endless loop, and time goes on. */
static void random_guest(void **state)
{
	struct machine *m = *state;
	uint64_t x = 88172645463325252ull;
	for (int i = 0; i < 300000; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		struct lapic *l = processor(m, x >> 60 & 3);
		uint64_t value;
		switch (x >> 56 & 7) {
		case 0: lapic_read(l, x & 0xfff); break;
		case 1: case 2: case 3: lapic_write(l, (x >> 4 & 0x3f) << 4, (uint32_t)(x >> 20)); break;
		case 4: lapic_msr_write(l, MSR_X2 + (x & 0x3f), x >> 40 & 0xffff); break;
		case 5:
			if ((x >> 8 & 0xff) == 0)
				lapic_msr_write(l, MSR_BASE, x >> 16 & 0xfffff);
			read_msr(l, MSR_X2 + (x & 0xff), &value);
			break;
		case 6: msi(m, x & 0xfffff, (uint32_t)(x >> 20) & 0xffff); break;
		default: pass(m, x & 0xffff); take(l); break;
		}
		for (unsigned p = 0; p < PROCESSORS; p++)
			assert_in_range(lapic_pending(processor(m, p)) + 1, 0, 256);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reset_state), TEST(init_keeps_base), TEST(priority_and_eoi),
		TEST(acknowledge_needs_request), TEST(task_priority), TEST(level_eoi_is_broadcast),
		TEST(software_disable), TEST(global_disable), TEST(base_transitions),
		TEST(spurious_and_errors), TEST(physical_destinations), TEST(logical_destinations),
		TEST(lowest_priority), TEST(shorthands), TEST(init_and_startup), TEST(nmi_wire),
		TEST(virtual_wire), TEST(x2apic_registers), TEST(x2apic_destinations),
		TEST(one_shot_timer), TEST(periodic_timer), TEST(tiny_period_is_coalesced),
		TEST(missed_periods_are_merged), TEST(deadline_timer),
		TEST(moved_tsc_moves_deadline), TEST(masked_timer_is_silent),
		TEST(divider_change_keeps_count), TEST(save_and_load),
		TEST(damaged_state_is_refused), TEST(random_guest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
