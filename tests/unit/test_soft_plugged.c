#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../l1/plugged_guest.h"
#include "soft/engine.h"
#include "x86/registers.h"

/* RAM that is plugged out under a software processor which has translations to
 * it, and in again. */

enum { RAM = 4 << 20, MARK_PORT = 0x10, STOP_MARK = 0xff, CODE = 0x10000 };

struct machine {
	struct memory *memory;
	struct engine *engine;
	unsigned marks;
};

static uint64_t mark_read(void *owner, uint64_t offset, unsigned size)
{
	return 0;
}

static void mark_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = owner;
	m->marks++;
	plugged_mark(m->memory, m->engine, (uint8_t)value);
	if (value == STOP_MARK)
		cpu_notify(((struct soft_engine *)m->engine)->cpu[0], EVENT_STOP);
}

static void on_eoi(void *owner, uint8_t vector)
{
}

static uint8_t on_extint(void *owner)
{
	return 0;
}

static void on_died(void *owner, unsigned processor, enum exit_status status, const char *text)
{
	print_error("%s", text);
}

static struct processor_state flat_state(void)
{
	struct processor_state s;
	processor_state_reset(&s);
	struct segment flat = { .selector = 16, .limit = UINT32_MAX,
		.access_rights = 3 | AR_S | AR_P | AR_DB | AR_G };
	for (int i = SEG_ES; i <= SEG_GS; i++)
		s.seg[i] = flat;
	s.seg[SEG_CS].selector = 8;
	s.seg[SEG_CS].access_rights |= 8;
	s.cr0 = CR0_PE | CR0_ET | CR0_NE;
	s.rip = CODE;
	return s;
}

static void plugged_out_and_in(void **state)
{
	static const struct bus_ops mark_ops = { mark_read, mark_write };
	struct engine_config config = { .processors = 1, .options = "icount" };
	struct error e;
	struct machine m = { .memory = memory_create_with_room(RAM, RAM, &e) };
	struct bus *bus = bus_create();
	struct engine_host host = { .memory = m.memory, .bus = bus, .owner = &m, .eoi = on_eoi,
		.extint_acknowledge = on_extint, .died = on_died,
		.clock = clock_create(bus_lock(bus), true) };
	assert_int_equal(bus_claim(bus, BUS_IO, MARK_PORT, 1, &mark_ops, &m, "mark", &e), 0);
	m.engine = soft_engine_ops.create(&config, &host, &e);
	assert_non_null(m.engine);
	assert_true(plugged_begin(m.memory, m.engine));
	memory_write(m.memory, CODE, guest_plugged, (uint64_t)(guest_plugged_end - guest_plugged));
	struct processor_state s = flat_state();
	soft_engine_ops.set_state(m.engine, 0, &s);
	soft_engine_ops.run(m.engine, 0);
	assert_int_equal(m.marks, 3);
	assert_true(plugged_seen(m.memory));
	soft_engine_ops.destroy(m.engine);
	clock_destroy(host.clock);
	bus_destroy(bus);
	memory_destroy(m.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(plugged_out_and_in) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
