/* The kvm engine driven by itself, with a guest of a few instructions and no
 * board. Runs where KVM is real: inside an L1 (suite `nested`). Prints one
 * result line per case.
 *
 * The guests run in 32-bit protected mode with flat segments. They talk to the
 * test through port 10h (a byte is a mark; STOP_MARK ends the run) and device
 * memory at DEVICE. */
#include "base/log.h"
#include "kvm/kvm.h"
#include "plugged_guest.h"
#include "x86/registers.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	GDT = 0x1000, IDT = 0x2000, PAGE_DIRECTORY = 0x3000, STACK = 0x9000, CODE = 0x10000, DATA = 0x20000,
	FLAG = DATA + 0x200,
	MEMORY = 4 << 20,
	MARK_PORT = 0x10, TEXT_PORT = 0x20,
	STOP_MARK = 0xff,
	EXTINT_VECTOR = 0x20, LEVEL_VECTOR = 0x31, NMI_VECTOR = 2,
	FLAT_CODE = 8, FLAT_DATA = 16,
	IOAPIC_LEVEL = 1 << 15, IOAPIC_ASSERT = 1 << 14,
};

#define DEVICE 0xd0000000u
#define APIC_MESSAGE 0xfee00000ull

#define GUEST(name, text) \
	__asm__(".pushsection .rodata\n.code32\n.globl guest_" #name "\nguest_" #name ":\n" text \
		"\n.globl guest_" #name "_end\nguest_" #name "_end:\n.code64\n.popsection"); \
	extern const uint8_t guest_##name[], guest_##name##_end[]

#define STOP "mov $0xff, %al\n out %al, $0x10\n 1: hlt\n jmp 1b\n"

GUEST(string, "mov $0x20000, %esi\n mov $5, %ecx\n mov $0x20, %dx\n cld\n rep outsb\n"
	"mov $0x20100, %edi\n mov $3, %ecx\n rep insb\n" STOP);
GUEST(mmio, "movl $0x11223344, 0xd0000000\n movb $0x55, 0xd0000009\n"
	"mov 0xd0000010, %eax\n mov %eax, 0x20000\n movzwl 0xd0000012, %eax\n mov %eax, 0x20004\n"
	STOP);
GUEST(extint, "movl $0x10f, 0xfee000f0\n movl $0x700, 0xfee00350\n mov $1, %al\n out %al, $0x10\n"
	"sti\n 2: hlt\n jmp 2b\n");
GUEST(level, "movl $0x10f, 0xfee000f0\n mov $2, %al\n out %al, $0x10\n sti\n 3: hlt\n jmp 3b\n");
GUEST(handler_extint, "mov $0x21, %al\n out %al, $0x10\n mov $0xff, %al\n out %al, $0x10\n iret\n");
GUEST(handler_level, "mov $0x31, %al\n out %al, $0x10\n movl $0, 0xfee000b0\n mov $0xff, %al\n"
	"out %al, $0x10\n iret\n");
GUEST(triple, "lidt 0x20010\n ud2\n");
GUEST(count, "4: incl 0x20000\n inc %ebx\n mov $3, %al\n out %al, $0x10\n jmp 4b\n");
GUEST(nmi, "movl $0x10f, 0xfee000f0\n movl $0x400, 0xfee00360\n mov $4, %al\n out %al, $0x10\n"
	"5: hlt\n jmp 5b\n");
GUEST(handler_nmi, "mov $0x42, %al\n out %al, $0x10\n" STOP);
/* Turn VMX operation (or SVM) on, wait for the flag, off, wait again. */
#define WAIT_FOR(value) "8: pause\n cmpl $" #value ", 0x20200\n jne 8b\n"
GUEST(vmx, "mov $0x480, %ecx\n rdmsr\n mov %eax, 0x30000\n vmxon 0x20208\n"
	"mov $6, %al\n out %al, $0x10\n" WAIT_FOR(1) "vmxoff\n mov $7, %al\n out %al, $0x10\n"
	WAIT_FOR(2) STOP);
GUEST(svm, "mov $0xc0000080, %ecx\n rdmsr\n or $0x1000, %eax\n wrmsr\n"
	"mov $6, %al\n out %al, $0x10\n" WAIT_FOR(1)
	"mov $0xc0000080, %ecx\n rdmsr\n and $~0x1000, %eax\n wrmsr\n"
	"mov $7, %al\n out %al, $0x10\n" WAIT_FOR(2) STOP);
GUEST(sleep, "mov $5, %al\n out %al, $0x10\n cli\n 6: hlt\n jmp 6b\n");

struct machine {
	struct memory *memory;
	struct bus *bus;
	struct engine *engine;
	struct engine_config config;
	uint8_t marks[64];
	unsigned mark_count;
	char text[64];
	unsigned text_length, text_given;
	uint64_t mmio_at[8], mmio_value[8];
	unsigned mmio_size[8], mmio_count;
	void (*on_mark)(struct machine *m, uint8_t mark);
	unsigned acknowledged, died_status;
	int eoi_vector;
	char dump[KVM_DUMP_SIZE];
};

static bool failed;

static void result(bool good, const char *what)
{
	printf("%s - kvm engine: %s\n", good ? "ok" : "not ok", what);
	fflush(stdout);
	failed = failed || !good;
}

static uint64_t text_read(void *owner, uint64_t offset, unsigned size)
{
	struct machine *m = owner;
	return (uint64_t)"xyz"[m->text_given++ % 3];
}

static void text_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = owner;
	if (m->text_length < sizeof m->text - 1)
		m->text[m->text_length++] = (char)value;
}

static uint64_t mark_read(void *owner, uint64_t offset, unsigned size)
{
	return 0;
}

static void mark_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = owner;
	if (m->mark_count < sizeof m->marks)
		m->marks[m->mark_count] = (uint8_t)value;
	__atomic_store_n(&m->mark_count, m->mark_count + 1, __ATOMIC_RELEASE);
	if (m->on_mark)
		m->on_mark(m, (uint8_t)value);
	if (value == STOP_MARK)
		m->engine->ops->stop(m->engine);
}

static uint64_t device_read(void *owner, uint64_t offset, unsigned size)
{
	return bits_trim(0xa1b2c3d4e5f60718ull >> (offset % 8 * 8), size);
}

static void device_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
	struct machine *m = owner;
	if (m->mmio_count < ARRAY_SIZE(m->mmio_at)) {
		m->mmio_at[m->mmio_count] = offset;
		m->mmio_size[m->mmio_count] = size;
		m->mmio_value[m->mmio_count++] = value;
	}
}

static void on_eoi(void *owner, uint8_t vector)
{
	struct machine *m = owner;
	m->eoi_vector = vector;
}

static uint8_t on_extint(void *owner)
{
	struct machine *m = owner;
	m->acknowledged++;
	m->engine->ops->extint(m->engine, false);
	return EXTINT_VECTOR;
}

static void on_died(void *owner, unsigned processor, enum exit_status status, const char *text)
{
	struct machine *m = owner;
	m->died_status = status;
	snprintf(m->dump, sizeof m->dump, "%s", text);
}

static void put_gate(struct machine *m, unsigned vector, uint32_t address)
{
	enum { INTERRUPT_GATE_32 = 0x8e00 };
	uint64_t gate = (address & 0xffff) | (uint64_t)FLAT_CODE << 16 |
		(uint64_t)INTERRUPT_GATE_32 << 32 | (uint64_t)(address & 0xffff0000) << 32;
	memory_write(m->memory, IDT + vector * 8, &gate, sizeof gate);
}

static struct processor_state flat_state(void)
{
	struct processor_state s;
	processor_state_reset(&s);
	struct segment data = { .selector = FLAT_DATA, .limit = UINT32_MAX,
		.access_rights = 3 | AR_S | AR_P | AR_DB | AR_G };
	for (int i = SEG_ES; i <= SEG_GS; i++)
		s.seg[i] = data;
	s.seg[SEG_CS] = data;
	s.seg[SEG_CS].selector = FLAT_CODE;
	s.seg[SEG_CS].access_rights = 0xb | AR_S | AR_P | AR_DB | AR_G;
	s.gdtr = (struct table_register){ GDT, 23 };
	s.idtr = (struct table_register){ IDT, 0x7ff };
	s.cr0 = CR0_PE | CR0_ET | CR0_NE;
	s.rip = CODE;
	s.gpr[RSP] = STACK;
	return s;
}

static void machine_open(struct machine *m, bool expose)
{
	static const struct bus_ops mark_ops = { mark_read, mark_write };
	static const struct bus_ops text_ops = { text_read, text_write };
	static const struct bus_ops device_ops = { device_read, device_write };
	static const uint64_t gdt[3] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
	struct error e = { 0 };
	*m = (struct machine){
		.config = { .processors = 1, .options = "",
			.expose_virtualization_extensions = expose },
		.eoi_vector = -1,
	};
	m->memory = memory_create_with_room(MEMORY, MEMORY, &e);
	m->bus = bus_create();
	if (!m->memory || bus_claim(m->bus, BUS_IO, MARK_PORT, 1, &mark_ops, m, "mark", &e) ||
	    bus_claim(m->bus, BUS_IO, TEXT_PORT, 1, &text_ops, m, "text", &e) ||
	    bus_claim(m->bus, BUS_MMIO, DEVICE, 0x1000, &device_ops, m, "device", &e))
		panic("%s", e.text);
	struct engine_host host = { .memory = m->memory, .bus = m->bus, .owner = m,
		.eoi = on_eoi, .extint_acknowledge = on_extint, .died = on_died };
	m->engine = kvm_engine_ops.create(&m->config, &host, &e);
	if (!m->engine) {
		printf("not ok - kvm engine: create: %s\n", e.text);
		exit(1);
	}
	memory_write(m->memory, GDT, gdt, sizeof gdt);
}

static void machine_close(struct machine *m)
{
	m->engine->ops->destroy(m->engine);
	bus_destroy(m->bus);
	memory_destroy(m->memory);
}

static void load_code(struct machine *m, uint32_t at, const uint8_t *from, const uint8_t *to)
{
	memory_write(m->memory, at, from, (uint64_t)(to - from));
}

static void run_from_start(struct machine *m, const uint8_t *from, const uint8_t *to)
{
	struct processor_state s = flat_state();
	load_code(m, CODE, from, to);
	m->engine->ops->set_state(m->engine, 0, &s);
	m->engine->ops->run(m->engine, 0);
}

#define RUN(m, name) run_from_start(m, guest_##name, guest_##name##_end)
#define HANDLER(m, vector, name) \
	do { \
		load_code(m, CODE + 0x1000 + (vector) * 64, guest_##name, guest_##name##_end); \
		put_gate(m, vector, CODE + 0x1000 + (vector) * 64); \
	} while (0)

static uint32_t word_at(struct machine *m, uint32_t address)
{
	uint32_t value = 0;
	memory_read(m->memory, address, &value, sizeof value);
	return value;
}

static void case_string(struct machine *m)
{
	memory_write(m->memory, DATA, "hello", 5);
	RUN(m, string);
	result(!strcmp(m->text, "hello"), "REP OUTSB passes each byte");
	result((word_at(m, DATA + 0x100) & 0xffffff) == ('x' | 'y' << 8 | 'z' << 16),
	       "REP INSB stores each byte");
}

static void case_mmio(struct machine *m)
{
	RUN(m, mmio);
	result(m->mmio_count == 2 && !m->mmio_at[0] && m->mmio_size[0] == 4 &&
	       m->mmio_value[0] == 0x11223344 && m->mmio_at[1] == 9 && m->mmio_size[1] == 1 &&
	       m->mmio_value[1] == 0x55, "writes to device memory have their size and address");
	result(word_at(m, DATA) == 0xe5f60718 && word_at(m, DATA + 4) == 0xe5f6,
	       "reads of device memory have their size and address");
}

/* The guest is ready: raise the wire. Called with the board lock held. */
static void raise_extint(struct machine *m, uint8_t mark)
{
	if (mark == 1)
		m->engine->ops->extint(m->engine, true);
}

static void case_extint(struct machine *m)
{
	HANDLER(m, EXTINT_VECTOR, handler_extint);
	m->on_mark = raise_extint;
	RUN(m, extint);
	result(m->acknowledged == 1 && m->mark_count == 3 && m->marks[1] == 0x21,
	       "the 8259's interrupt wakes HLT and is acknowledged once");
}

static void send_level(struct machine *m, uint8_t mark)
{
	uint32_t data = LEVEL_VECTOR | IOAPIC_LEVEL | IOAPIC_ASSERT;
	if (mark != 2)
		return;
	m->engine->ops->ioapic_route(m->engine, 9, APIC_MESSAGE, data, true);
	m->engine->ops->msi(m->engine, APIC_MESSAGE, data);
}

static void case_level(struct machine *m)
{
	HANDLER(m, LEVEL_VECTOR, handler_level);
	m->on_mark = send_level;
	RUN(m, level);
	result(m->mark_count == 3 && m->marks[1] == LEVEL_VECTOR, "a message interrupts the guest");
	result(m->eoi_vector == LEVEL_VECTOR, "the EOI of a level-triggered pin comes back");
}

static void raise_nmi(struct machine *m, uint8_t mark)
{
	if (mark == 4)
		m->engine->ops->nmi(m->engine);
}

static void case_nmi(struct machine *m)
{
	HANDLER(m, NMI_VECTOR, handler_nmi);
	m->on_mark = raise_nmi;
	RUN(m, nmi);
	result(m->mark_count == 3 && m->marks[1] == 0x42, "NMI by LINT1");
}

static void case_triple(struct machine *m)
{
	static const uint8_t no_idt[6];
	memory_write(m->memory, DATA + 0x10, no_idt, sizeof no_idt);
	RUN(m, triple);
	result(m->died_status == STATUS_DIED && strstr(m->dump, "Triple fault") &&
	       strstr(m->dump, "RIP"), "a triple fault ends the run with a dump");
}

static void plug(struct machine *m, uint8_t mark)
{
	plugged_mark(m->memory, m->engine, mark);
}

static void case_plugged(struct machine *m)
{
	m->on_mark = plug;
	result(plugged_begin(m->memory, m->engine), "a block of RAM is plugged in");
	RUN(m, plugged);
	result(plugged_seen(m->memory), "RAM that is plugged out is none, and empty when it is in again");
	/* A new VM over the same memory has it too. */
	m->engine->ops->reset(m->engine);
	RUN(m, plugged);
	result(plugged_seen(m->memory), "what is plugged in is there after a reset");
}

enum { COUNT_TO = 50 };

static void stop_at_count(struct machine *m, uint8_t mark)
{
	if (m->mark_count % COUNT_TO == 0)
		m->engine->ops->stop(m->engine);
}

/* Field by field: the structs have holes. */
static bool same_state(const struct processor_state *a, const struct processor_state *b)
{
	for (unsigned i = 0; i < SEG_COUNT; i++)
		if (a->seg[i].selector != b->seg[i].selector || a->seg[i].base != b->seg[i].base ||
		    a->seg[i].limit != b->seg[i].limit ||
		    a->seg[i].access_rights != b->seg[i].access_rights)
			return false;
	return !memcmp(a->gpr, b->gpr, sizeof a->gpr) && a->rip == b->rip &&
		a->rflags == b->rflags && a->gdtr.base == b->gdtr.base &&
		a->gdtr.limit == b->gdtr.limit && a->idtr.base == b->idtr.base &&
		a->idtr.limit == b->idtr.limit && a->cr0 == b->cr0 && a->cr2 == b->cr2 &&
		a->cr3 == b->cr3 && a->cr4 == b->cr4 && a->cr8 == b->cr8 && a->efer == b->efer;
}

/* Run, save, load into another VM, run on: no iteration lost or doubled. */
static void case_save(struct machine *m)
{
	struct machine other;
	struct state state = { 0 };
	struct processor_state before, after;
	struct error e = { 0 };
	uint8_t page[PAGE_SIZE];
	m->on_mark = stop_at_count;
	RUN(m, count);
	result(word_at(m, DATA) == COUNT_TO, "stop() finishes the instruction and no more");
	m->engine->ops->get_state(m->engine, 0, &before);
	m->engine->ops->save(m->engine, &state);

	machine_open(&other, false);
	other.on_mark = stop_at_count;
	memory_read(m->memory, DATA, page, sizeof page);
	memory_write(other.memory, DATA, page, sizeof page);
	memory_read(m->memory, CODE, page, sizeof page);
	memory_write(other.memory, CODE, page, sizeof page);
	int loaded = other.engine->ops->load(other.engine, &state, &e);
	if (loaded)
		printf("# %s\n", e.text);
	result(!loaded, "a saved state loads");
	if (!loaded) {
		other.engine->ops->get_state(other.engine, 0, &after);
		result(same_state(&before, &after), "and is the same");
		other.engine->ops->run(other.engine, 0);
		other.engine->ops->get_state(other.engine, 0, &after);
		result(word_at(&other, DATA) == 2 * COUNT_TO && after.gpr[RBX] == 2 * COUNT_TO,
		       "and runs on where it stopped");
	}
	state.at = 0;
	state.size /= 2;
	result(other.engine->ops->load(other.engine, &state, &e) != 0, "half a state is refused");
	machine_close(&other);
	state_free(&state);
}

static void case_reset(struct machine *m)
{
	struct processor_state s, power_on;
	m->on_mark = stop_at_count;
	RUN(m, count);
	m->engine->ops->reset(m->engine);
	m->engine->ops->get_state(m->engine, 0, &s);
	processor_state_reset(&power_on);
	result(s.rip == power_on.rip && s.seg[SEG_CS].base == power_on.seg[SEG_CS].base &&
	       !(s.cr0 & CR0_PE) && !s.gpr[RBX], "reset gives the power-on state");
	m->mark_count = 0;
	memory_fill(m->memory, DATA, 0, 4);
	RUN(m, count);
	result(word_at(m, DATA) == COUNT_TO, "and the VM runs again");
}

static void *stop_soon(void *arg)
{
	struct machine *m = arg;
	usleep(200000);
	result(!m->engine->ops->hypervisor_running(m->engine),
	       "no hypervisor is seen where there is none");
	m->engine->ops->stop(m->engine);
	return NULL;
}

static void case_stop(struct machine *m)
{
	pthread_t thread;
	pthread_create(&thread, NULL, stop_soon, m);
	RUN(m, sleep);
	pthread_join(thread, NULL);
	result(m->mark_count == 1, "stop() wakes a processor that sleeps for ever");
}

static bool processor_is_intel(void)
{
	unsigned a, b, c, d;
	__cpuid(0, a, b, c, d);
	return b == signature_INTEL_ebx;
}

static void *watch_hypervisor(void *arg)
{
	struct machine *m = arg;
	uint32_t go = 1;
	while (__atomic_load_n(&m->mark_count, __ATOMIC_ACQUIRE) < 1)
		usleep(1000);
	result(m->engine->ops->hypervisor_running(m->engine),
	       "a guest in VMX operation (or with SVM on) counts as a hypervisor");
	memory_write(m->memory, FLAG, &go, sizeof go);
	while (__atomic_load_n(&m->mark_count, __ATOMIC_ACQUIRE) < 2)
		usleep(1000);
	result(!m->engine->ops->hypervisor_running(m->engine), "and no longer when it has left");
	go = 2;
	memory_write(m->memory, FLAG, &go, sizeof go);
	return NULL;
}

/* In a machine of its own, with the extensions exposed. */
static void test_hypervisor_running(bool intel)
{
	enum { IDENTITY_4M = 0x83, REGION = 0x30000 };
	static const uint32_t directory[1024] = { IDENTITY_4M };
	uint64_t region = REGION;
	struct machine m;
	struct processor_state s = flat_state();
	pthread_t thread;
	machine_open(&m, true);
	memory_write(m.memory, PAGE_DIRECTORY, directory, sizeof directory);
	memory_write(m.memory, FLAG + 8, &region, sizeof region);
	s.cr3 = PAGE_DIRECTORY;
	s.cr4 = CR4_PSE | (intel ? CR4_VMXE : 0);
	s.cr0 |= CR0_PG;
	if (intel)
		load_code(&m, CODE, guest_vmx, guest_vmx_end);
	else
		load_code(&m, CODE, guest_svm, guest_svm_end);
	m.engine->ops->set_state(m.engine, 0, &s);
	pthread_create(&thread, NULL, watch_hypervisor, &m);
	m.engine->ops->run(m.engine, 0);
	if (m.died_status) {
		printf("# %s\n", m.dump);
		result(false, "the guest turns the extensions on");
		exit(1);
	}
	pthread_join(thread, NULL);
	machine_close(&m);
}

int main(void)
{
	static void (*const cases[])(struct machine *m) = {
		case_string, case_mmio, case_extint, case_level, case_nmi, case_triple, case_save,
		case_reset, case_stop, case_plugged,
	};
	struct engine_config config = { .processors = 1, .options = "" };
	struct error e = { 0 };
	int can = kvm_engine_ops.probe(&config, &e);
	result(!can, can ? e.text : "the probe finds KVM");
	if (can)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct machine m;
		machine_open(&m, false);
		cases[i](&m);
		machine_close(&m);
	}
	config.expose_virtualization_extensions = true;
	if (kvm_engine_ops.probe(&config, &e))
		printf("# no nesting here: %s\n", e.text);
	else
		test_hypervisor_running(processor_is_intel());
	return failed;
}
