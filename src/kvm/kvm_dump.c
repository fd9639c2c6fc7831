#include "kvm/kvm.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

enum { CODE_BYTES = 16 };

struct text {
	char *at;
	size_t room;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(t->at, t->room, format, ap);
	va_end(ap);
	size_t used = n < 0 ? 0 : (size_t)n < t->room ? (size_t)n : t->room - 1;
	t->at += used;
	t->room -= used;
}

static void add_events(struct text *t, const struct kvm_vcpu_events *v)
{
	if (v->exception.injected || v->exception.pending)
		add(t, "exception %u %s, error code %#x\n", v->exception.nr,
		    v->exception.injected ? "being delivered" : "pending",
		    v->exception.has_error_code ? v->exception.error_code : 0);
	if (v->interrupt.injected)
		add(t, "interrupt vector %u being delivered\n", v->interrupt.nr);
	if (v->nmi.injected || v->nmi.pending)
		add(t, "NMI %s\n", v->nmi.injected ? "being delivered" : "pending");
}

static void add_code(struct text *t, struct kvm_processor *p, uint64_t linear)
{
	struct kvm_translation where = { .linear_address = linear };
	uint8_t code[CODE_BYTES];
	if (ioctl(p->fd, KVM_TRANSLATE, &where) || !where.valid ||
	    !memory_read(p->engine->engine.host.memory, where.physical_address, code,
			 sizeof code)) {
		add(t, "code at %#llx: not readable\n", (unsigned long long)linear);
		return;
	}
	add(t, "code at %#llx:", (unsigned long long)linear);
	for (unsigned i = 0; i < CODE_BYTES; i++)
		add(t, " %02x", code[i]);
	add(t, "\n");
}

void kvm_dump(struct kvm_processor *p, const char *headline, char text[KVM_DUMP_SIZE])
{
	static const char *const gpr[16] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
		"R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15" };
	static const char *const segment[SEG_COUNT] = { "ES", "CS", "SS", "DS", "FS", "GS", "LDTR",
		"TR" };
	struct text t = { text, KVM_DUMP_SIZE };
	struct kvm_vcpu_events events;
	struct processor_state s;
	add(&t, "%s\n", headline);
	kvm_get_state(&p->engine->engine, p->id, &s);
	for (unsigned i = 0; i < 16; i++)
		add(&t, "%-4s%016llx%s", gpr[i], (unsigned long long)s.gpr[i],
		    i % 4 == 3 ? "\n" : "  ");
	add(&t, "RIP %016llx  RFLAGS %08llx  EFER %llx\n", (unsigned long long)s.rip,
	    (unsigned long long)s.rflags, (unsigned long long)s.efer);
	add(&t, "CR0 %llx  CR2 %llx  CR3 %llx  CR4 %llx\n", (unsigned long long)s.cr0,
	    (unsigned long long)s.cr2, (unsigned long long)s.cr3, (unsigned long long)s.cr4);
	for (unsigned i = 0; i < SEG_COUNT; i++)
		add(&t, "%-5s%04x  base %016llx  limit %08x  rights %05x\n", segment[i],
		    s.seg[i].selector, (unsigned long long)s.seg[i].base, s.seg[i].limit,
		    s.seg[i].access_rights);
	add(&t, "GDTR base %016llx limit %04x  IDTR base %016llx limit %04x\n",
	    (unsigned long long)s.gdtr.base, s.gdtr.limit, (unsigned long long)s.idtr.base,
	    s.idtr.limit);
	if (!ioctl(p->fd, KVM_GET_VCPU_EVENTS, &events))
		add_events(&t, &events);
	add_code(&t, p, s.seg[SEG_CS].base + s.rip);
}
