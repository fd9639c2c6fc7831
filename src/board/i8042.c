#include "board/i8042.h"

#include "base/bits.h"
#include "base/log.h"
#include "board/isa.h"

#include <stdlib.h>

/* Commands and registers are those of the IBM PS/2 Hardware Interface Technical
 * Reference, "Keyboard and Auxiliary Device Controller".
 *
 * Nobody answers behind it, and it says so at once, so that no guest waits: a
 * byte for the keyboard comes back as FEh (resend) with the time-out bit, the
 * auxiliary device's test fails, and a byte for the auxiliary device's output
 * comes back without the bit that would make it one. A20 is always open. */

enum status {
	STATUS_OUTPUT_FULL = BIT(0),
	STATUS_SYSTEM = BIT(2),
	STATUS_COMMAND = BIT(3),	/* the last write was to the command port */
	STATUS_UNLOCKED = BIT(4),
	STATUS_TIMEOUT = BIT(6),
};

enum command_byte {
	CONTROL_INTERRUPT = BIT(0),
	CONTROL_SYSTEM = BIT(2),
	CONTROL_KEYBOARD_OFF = BIT(4),
	CONTROL_AUX_OFF = BIT(5),
	CONTROL_TRANSLATE = BIT(6),
	CONTROL_RESET = CONTROL_TRANSLATE | CONTROL_AUX_OFF | CONTROL_KEYBOARD_OFF,
};

enum output_port {
	OUTPUT_NO_RESET = BIT(0),
	OUTPUT_A20 = BIT(1),
	OUTPUT_RESET_VALUE = 0xcc | OUTPUT_NO_RESET | OUTPUT_A20,
};

enum command {
	READ_RAM = 0x20,	/* to 3fh; RAM byte 0 is the command byte */
	WRITE_RAM = 0x60,	/* to 7fh */
	DISABLE_AUX = 0xa7,
	ENABLE_AUX = 0xa8,
	TEST_AUX = 0xa9,
	SELF_TEST = 0xaa,
	TEST_KEYBOARD = 0xab,
	DISABLE_KEYBOARD = 0xad,
	ENABLE_KEYBOARD = 0xae,
	READ_INPUT_PORT = 0xc0,
	READ_OUTPUT_PORT = 0xd0,
	WRITE_OUTPUT_PORT = 0xd1,
	WRITE_KEYBOARD_OUTPUT = 0xd2,
	WRITE_AUX_OUTPUT = 0xd3,
	WRITE_AUX = 0xd4,
	PULSE_OUTPUT = 0xf0,	/* to ffh; a clear bit pulses that line */
};

enum answer {
	SELF_TEST_PASSED = 0x55,
	LINES_FINE = 0x00,
	CLOCK_STUCK_LOW = 0x01,
	INPUT_PORT = 0x80,	/* keyboard not locked */
	RESEND = 0xfe,
};

enum port_92 { PORT_92_RESET = BIT(0), PORT_92_A20 = BIT(1) };

enum { RAM_SIZE = 32 };

struct i8042 {
	struct device device;
	struct irq_line irq1;
	struct machine_control machine;
	uint8_t ram[RAM_SIZE];	/* ram[0]: the command byte */
	uint8_t status, output, output_port;
	uint8_t command;	/* that waits for its byte at port 60h; 0: none */
	bool irq_level;
};

static void update_irq(struct i8042 *k)
{
	bool level = k->status & STATUS_OUTPUT_FULL && k->ram[0] & CONTROL_INTERRUPT;
	if (level != k->irq_level) {
		k->irq_level = level;
		irq_set(&k->irq1, level);
	}
}

static void answer(struct i8042 *k, uint8_t byte)
{
	k->output = byte;
	k->status = (k->status & ~STATUS_TIMEOUT) | STATUS_OUTPUT_FULL;
}

static void request_reset(struct i8042 *k)
{
	if (k->machine.request)
		k->machine.request(k->machine.owner, MACHINE_RESET, 0);
}

static void set_command_byte(struct i8042 *k, uint8_t value)
{
	k->ram[0] = value;
	k->status = (k->status & ~STATUS_SYSTEM) |
		(value & CONTROL_SYSTEM ? STATUS_SYSTEM : 0);
}

/* A byte for the keyboard or the auxiliary device, which is not there. */
static void send_nowhere(struct i8042 *k)
{
	answer(k, RESEND);
	k->status |= STATUS_TIMEOUT;
}

static void write_command(struct i8042 *k, uint8_t command)
{
	k->command = 0;
	k->status |= STATUS_COMMAND;
	if (command >= PULSE_OUTPUT) {
		if (!(command & OUTPUT_NO_RESET))
			request_reset(k);
		return;
	}
	if (command >= READ_RAM && command < READ_RAM + RAM_SIZE) {
		answer(k, k->ram[command - READ_RAM]);
		return;
	}
	if (command >= WRITE_RAM && command < WRITE_RAM + RAM_SIZE) {
		k->command = command;
		return;
	}
	switch (command) {
	case DISABLE_AUX:
		k->ram[0] |= CONTROL_AUX_OFF;
		break;
	case ENABLE_AUX:
		k->ram[0] &= ~CONTROL_AUX_OFF;
		break;
	case DISABLE_KEYBOARD:
		k->ram[0] |= CONTROL_KEYBOARD_OFF;
		break;
	case ENABLE_KEYBOARD:
		k->ram[0] &= ~CONTROL_KEYBOARD_OFF;
		break;
	case TEST_AUX:
		answer(k, CLOCK_STUCK_LOW);
		break;
	case SELF_TEST:
		set_command_byte(k, CONTROL_RESET | CONTROL_SYSTEM);
		answer(k, SELF_TEST_PASSED);
		break;
	case TEST_KEYBOARD:
		answer(k, LINES_FINE);
		break;
	case READ_INPUT_PORT:
		answer(k, INPUT_PORT);
		break;
	case READ_OUTPUT_PORT:
		answer(k, k->output_port);
		break;
	case WRITE_OUTPUT_PORT:
	case WRITE_KEYBOARD_OUTPUT:
	case WRITE_AUX_OUTPUT:
	case WRITE_AUX:
		k->command = command;
		break;
	}
}

static void write_data(struct i8042 *k, uint8_t value)
{
	uint8_t command = k->command;
	k->command = 0;
	k->status &= ~STATUS_COMMAND;
	if (command == WRITE_RAM)
		set_command_byte(k, value);
	else if (command > WRITE_RAM && command < WRITE_RAM + RAM_SIZE)
		k->ram[command - WRITE_RAM] = value;
	else if (command == WRITE_OUTPUT_PORT) {
		k->output_port = value | OUTPUT_NO_RESET | OUTPUT_A20;
		if (!(value & OUTPUT_NO_RESET))
			request_reset(k);
	} else if (command == WRITE_KEYBOARD_OUTPUT || command == WRITE_AUX_OUTPUT)
		answer(k, value);
	else
		send_nowhere(k);
}

static uint8_t data_read_byte(void *owner, unsigned offset)
{
	struct i8042 *k = owner;
	k->status &= ~(STATUS_OUTPUT_FULL | STATUS_TIMEOUT);
	update_irq(k);
	return k->output;
}

static void data_write_byte(void *owner, unsigned offset, uint8_t value)
{
	write_data(owner, value);
	update_irq(owner);
}

static uint8_t command_read_byte(void *owner, unsigned offset)
{
	const struct i8042 *k = owner;
	return k->status;
}

static void command_write_byte(void *owner, unsigned offset, uint8_t value)
{
	write_command(owner, value);
	update_irq(owner);
}

static uint8_t port_92_read_byte(void *owner, unsigned offset)
{
	return PORT_92_A20;
}

static void port_92_write_byte(void *owner, unsigned offset, uint8_t value)
{
	if (value & PORT_92_RESET)
		request_reset(owner);
}

ISA_OPS(data);
ISA_OPS(command);
ISA_OPS(port_92);

static const struct isa_range i8042_ranges[] = {
	{ I8042_DATA, 1, &data_ops },
	{ I8042_COMMAND, 1, &command_ops },
	{ I8042_PORT_92, 1, &port_92_ops },
};

static void i8042_reset(struct device *d)
{
	struct i8042 *k = container_of(d, struct i8042, device);
	memset(k->ram, 0, sizeof k->ram);
	k->status = STATUS_COMMAND | STATUS_UNLOCKED;
	/* As the firmware's self test leaves it. */
	set_command_byte(k, CONTROL_RESET | CONTROL_SYSTEM);
	k->output = 0;
	k->output_port = OUTPUT_RESET_VALUE;
	k->command = 0;
	update_irq(k);
}

static void exchange(struct i8042 *k, struct state *s)
{
	state_bytes(s, k->ram, sizeof k->ram);
	state_field(s, k->status);
	state_field(s, k->output);
	state_field(s, k->output_port);
	state_field(s, k->command);
	state_field(s, k->irq_level);
}

static void i8042_save(const struct device *d, struct state *s)
{
	struct i8042 *k = container_of(d, struct i8042, device);
	state_section(s, d->ops->name, 1);
	exchange(k, s);
}

static int i8042_load(struct device *d, struct state *s, struct error *e)
{
	struct i8042 *k = container_of(d, struct i8042, device);
	if (state_open(s, d->ops->name) > 1)
		s->failed = true;
	exchange(k, s);
	if (state_finish(s, d->ops->name, e)) {
		i8042_reset(d);
		return -1;
	}
	irq_set(&k->irq1, k->irq_level);
	update_irq(k);
	return 0;
}

static const struct device_ops i8042_device_ops = {
	"i8042", i8042_reset, i8042_save, i8042_load
};

struct i8042 *i8042_create(struct bus *bus, struct irq_line irq1,
			   const struct machine_control *machine, struct error *e)
{
	struct i8042 *k = alloc_zeroed(1, sizeof *k);
	k->device.ops = &i8042_device_ops;
	k->irq1 = irq1;
	k->machine = *machine;
	if (isa_claim(bus, i8042_ranges, ARRAY_SIZE(i8042_ranges), k, "i8042", e)) {
		free(k);
		return NULL;
	}
	i8042_reset(&k->device);
	return k;
}

void i8042_destroy(struct i8042 *k)
{
	free(k);
}
