#include "board/acpi_pm.h"

#include "base/bits.h"
#include "base/log.h"
#include "board/isa.h"

#include <stdlib.h>

/* Names are those of the ACPI specification, "ACPI Hardware Features"; the
 * reset control register is the PIIX3's ("Reset Control Register").
 *
 * The timer is a function of the VM clock. TMR_STS follows from it too: sync()
 * compares how often the highest bit has changed with how often it had when the
 * status was last clear. A timer is armed for that only while it could raise the
 * SCI. */

enum pm1_register { PM1_STATUS = 0, PM1_ENABLE = 2, PM1_CONTROL = 4, PM1_TIMER = 8,
		    PM1_TIMER_END = 12 };

/* Status and enable bits. */
enum pm1_event {
	TMR_STS = BIT(0),
	GBL_STS = BIT(5),
	PWRBTN_STS = BIT(8),
	SLPBTN_STS = BIT(9),
	RTC_STS = BIT(10),
	PM1_EVENTS = TMR_STS | GBL_STS | PWRBTN_STS | SLPBTN_STS | RTC_STS,
};

enum pm1_control {
	SCI_EN = BIT(0),
	BM_RLD = BIT(1),
	SLP_TYP_SHIFT = 10,
	SLP_TYP_MASK = 7,
	SLP_EN = BIT(13),
	/* GBL_RLS and SLP_EN are written only. */
	CONTROL_KEPT = SCI_EN | BM_RLD | SLP_TYP_MASK << SLP_TYP_SHIFT,
};

enum reset_control {
	RESET_SYSTEM = BIT(1),
	RESET_CPU = BIT(2),	/* its rise resets */
	RESET_KEPT = RESET_SYSTEM | RESET_CPU,
};

/* Ticks between two changes of the timer's highest bit. */
#define HALF_TURN (1ull << (ACPI_PM_TIMER_BITS - 1))

struct acpi_pm {
	struct device device;
	struct clock *clock;
	struct irq_line sci;
	struct machine_control machine;
	struct timer timer;
	uint16_t status, enable, control;
	uint8_t reset_control;
	uint64_t tick0;		/* what the clock's ticks are added to */
	uint64_t seen;		/* half turns when TMR_STS was last clear */
	bool sci_level;
};

static uint64_t clock_ticks(const struct acpi_pm *pm)
{
	return scale_u64(clock_now(pm->clock), ACPI_PM_TIMER_HZ, NS_PER_SECOND);
}

/* Since the machine began; the timer register is its low bits. */
static uint64_t ticks_now(const struct acpi_pm *pm)
{
	return pm->tick0 + clock_ticks(pm);
}

static void sync(struct acpi_pm *pm)
{
	uint64_t half_turns = ticks_now(pm) / HALF_TURN;
	if (half_turns != pm->seen)
		pm->status |= TMR_STS;
	pm->seen = half_turns;
}

static void update(struct acpi_pm *pm)
{
	bool level, armed;
	sync(pm);
	level = pm->control & SCI_EN && pm->status & pm->enable;
	armed = pm->control & SCI_EN && pm->enable & ~pm->status & TMR_STS;
	if (level != pm->sci_level) {
		pm->sci_level = level;
		irq_set(&pm->sci, level);
	}
	if (armed) {
		uint64_t left = HALF_TURN - ticks_now(pm) % HALF_TURN;
		timer_set(pm->clock, &pm->timer,
			  scale_u64(clock_ticks(pm) + left, NS_PER_SECOND, ACPI_PM_TIMER_HZ) + 1);
	} else
		timer_cancel(pm->clock, &pm->timer);
}

static void turned(void *owner)
{
	update(owner);
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
	pm->status |= PWRBTN_STS;
	update(pm);
}

static void request(struct acpi_pm *pm, enum machine_request what)
{
	if (pm->machine.request)
		pm->machine.request(pm->machine.owner, what, 0);
}

static void write_control(struct acpi_pm *pm, uint16_t value)
{
	pm->control = value & CONTROL_KEPT;
	if (value & SLP_EN && (value >> SLP_TYP_SHIFT & SLP_TYP_MASK) == ACPI_SLP_TYP_S5)
		request(pm, MACHINE_POWER_OFF);
}

/* The block as bytes, status to the end of the timer. */
static uint8_t pm_read_byte(void *owner, unsigned offset)
{
	struct acpi_pm *pm = owner;
	unsigned shift = 8 * (offset & 1);
	sync(pm);
	if (offset < PM1_ENABLE)
		return (uint8_t)(pm->status >> shift);
	if (offset < PM1_CONTROL)
		return (uint8_t)(pm->enable >> shift);
	if (offset < PM1_CONTROL + 2)
		return (uint8_t)(pm->control >> shift);
	return 0;
}

/* The timer is read as a whole, or its bytes would be of different moments. */
static uint64_t pm_read(void *owner, uint64_t offset, unsigned size)
{
	struct acpi_pm *pm = owner;
	if (offset >= PM1_TIMER && offset + size <= PM1_TIMER_END)
		return (uint32_t)ticks_now(pm) >> 8 * (offset - PM1_TIMER);
	return isa_read(pm_read_byte, owner, offset, size);
}

/* `value` with the byte at `offset` replaced. */
static uint16_t with_byte(uint16_t value, unsigned offset, uint8_t byte)
{
	return offset & 1 ? (uint16_t)((value & 0x00ff) | byte << 8) :
		(uint16_t)((value & 0xff00) | byte);
}

static void pm_write_byte(void *owner, unsigned offset, uint8_t value)
{
	struct acpi_pm *pm = owner;
	sync(pm);
	if (offset < PM1_ENABLE)
		pm->status &= ~with_byte(0, offset, value);
	else if (offset < PM1_CONTROL)
		pm->enable = with_byte(pm->enable, offset, value) & PM1_EVENTS;
	else if (offset < PM1_CONTROL + 2)
		write_control(pm, with_byte(pm->control, offset, value));
	update(pm);
}

static void pm_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	isa_write(pm_write_byte, owner, offset, size, value);
}

static const struct bus_ops pm_ops = { pm_read, pm_write };

static uint64_t reset_read(void *owner, uint64_t offset, unsigned size)
{
	const struct acpi_pm *pm = owner;
	return pm->reset_control;
}

static void reset_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct acpi_pm *pm = owner;
	bool rises = value & ~pm->reset_control & RESET_CPU;
	pm->reset_control = value & RESET_KEPT;
	if (rises)
		request(pm, MACHINE_RESET);
}

const struct bus_ops acpi_pm_reset_control = { reset_read, reset_write };

static void acpi_pm_reset(struct device *d)
{
	struct acpi_pm *pm = container_of(d, struct acpi_pm, device);
	pm->status = 0;
	pm->enable = 0;
	pm->control = SCI_EN;
	pm->reset_control = 0;
	pm->tick0 = -clock_ticks(pm);
	pm->seen = 0;
	update(pm);
}

static void acpi_pm_save(const struct device *d, struct state *s)
{
	struct acpi_pm pm = *container_of(d, const struct acpi_pm, device);
	sync(&pm);
	state_section(s, d->ops->name, 1);
	state_put_field(s, pm.status);
	state_put_field(s, pm.enable);
	state_put_field(s, pm.control);
	state_put_field(s, pm.reset_control);
	state_put(s, ticks_now(&pm), 8);
	state_put_field(s, pm.seen);
	state_put_field(s, pm.sci_level);
}

static int acpi_pm_load(struct device *d, struct state *s, struct error *e)
{
	struct acpi_pm *pm = container_of(d, struct acpi_pm, device);
	if (state_open(s, d->ops->name) > 1)
		s->failed = true;
	state_get_field(s, pm->status);
	state_get_field(s, pm->enable);
	state_get_field(s, pm->control);
	state_get_field(s, pm->reset_control);
	pm->tick0 = state_get(s, 8) - clock_ticks(pm);
	state_get_field(s, pm->seen);
	state_get_field(s, pm->sci_level);
	if (state_finish(s, d->ops->name, e)) {
		acpi_pm_reset(d);
		return -1;
	}
	pm->status &= PM1_EVENTS;
	pm->enable &= PM1_EVENTS;
	pm->control &= CONTROL_KEPT;
	pm->reset_control &= RESET_KEPT;
	irq_set(&pm->sci, pm->sci_level);
	update(pm);
	return 0;
}

static const struct device_ops acpi_pm_device_ops = {
	"acpi_pm", acpi_pm_reset, acpi_pm_save, acpi_pm_load
};

struct acpi_pm *acpi_pm_create(struct bus *bus, struct clock *clock, struct irq_line sci,
			       const struct machine_control *machine, struct error *e)
{
	struct acpi_pm *pm = alloc_zeroed(1, sizeof *pm);
	pm->device.ops = &acpi_pm_device_ops;
	pm->clock = clock;
	pm->sci = sci;
	pm->machine = *machine;
	pm->timer = (struct timer){ .fire = turned, .owner = pm, .deadline = CLOCK_NEVER };
	if (bus_claim(bus, BUS_IO, ACPI_PM_BASE, ACPI_PM_SIZE, &pm_ops, pm, "acpi_pm", e)) {
		free(pm);
		return NULL;
	}
	acpi_pm_reset(&pm->device);
	return pm;
}

void acpi_pm_destroy(struct acpi_pm *pm)
{
	timer_cancel(pm->clock, &pm->timer);
	free(pm);
}
