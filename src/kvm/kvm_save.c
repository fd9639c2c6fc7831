/* A vCPU's state as KVM hands it out, in and out of a saved state.
 *
 * What KVM gives is little-endian and padded alike on every x86-64 kernel, so
 * its structs go in as bytes with their size. The order on load is KVM's:
 * special registers (paging, EFER) first, then the feature control MSR, nested
 * state, the rest of the MSRs, and the deadline timer after the local APIC. */
#include "kvm/kvm.h"

#include "base/log.h"
#include "x86/registers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum {
	SAVE_VERSION = 1,
	MAX_SAVED_MSRS = 1024,
	MAX_NESTED_STATE = 1 << 20,
};

#define SECTION "kvm processor"

/* Fixed-size states: get and set calls, in the order of loading. */
enum part { PART_SREGS, PART_REGS, PART_XCRS, PART_XSAVE, PART_LAPIC, PART_DEBUGREGS, PART_EVENTS,
	    PART_MP_STATE, PARTS };

static const struct {
	unsigned long get, set;
	size_t size;
	const char *name;
} parts[PARTS] = {
	[PART_SREGS] = { KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs), "KVM_SET_SREGS" },
	[PART_REGS] = { KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs), "KVM_SET_REGS" },
	[PART_XCRS] = { KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs), "KVM_SET_XCRS" },
	[PART_XSAVE] = { KVM_GET_XSAVE, KVM_SET_XSAVE, sizeof(struct kvm_xsave), "KVM_SET_XSAVE" },
	[PART_LAPIC] = { KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state),
			 "KVM_SET_LAPIC" },
	[PART_DEBUGREGS] = { KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, sizeof(struct kvm_debugregs),
			     "KVM_SET_DEBUGREGS" },
	[PART_EVENTS] = { KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
			  sizeof(struct kvm_vcpu_events), "KVM_SET_VCPU_EVENTS" },
	[PART_MP_STATE] = { KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state),
			    "KVM_SET_MP_STATE" },
};

union part_data {
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_xcrs xcrs;
	struct kvm_xsave xsave;
	struct kvm_lapic_state lapic;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
};

struct one_msr {
	struct { uint32_t nmsrs, pad; } head;	/* struct kvm_msrs */
	struct kvm_msr_entry entry;
};

static bool read_msr(struct kvm_processor *p, uint32_t index, uint64_t *value)
{
	struct one_msr m = { .head.nmsrs = 1, .entry.index = index };
	if (ioctl(p->fd, KVM_GET_MSRS, &m) != 1)
		return false;
	*value = m.entry.data;
	return true;
}

static bool write_msr(struct kvm_processor *p, uint32_t index, uint64_t value)
{
	struct one_msr m = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };
	return ioctl(p->fd, KVM_SET_MSRS, &m) == 1;
}

/* Every MSR that this kernel says has state; pairs, ended by their count
 * before them. */
static void save_msrs(struct kvm_processor *p, struct state *s)
{
	struct {
		struct { uint32_t nmsrs; } head;	/* struct kvm_msr_list */
		uint32_t index[MAX_SAVED_MSRS];
	} *list = alloc_zeroed(1, sizeof *list);
	struct kvm_msr_entry *found = alloc_zeroed(MAX_SAVED_MSRS, sizeof *found);
	uint32_t count = 0;
	list->head.nmsrs = MAX_SAVED_MSRS;
	if (ioctl(p->engine->kvm, KVM_GET_MSR_INDEX_LIST, list))
		panic("KVM_GET_MSR_INDEX_LIST: %s", strerror(errno));
	for (uint32_t i = 0; i < list->head.nmsrs; i++) {
		uint64_t value;
		if (read_msr(p, list->index[i], &value))
			found[count++] = (struct kvm_msr_entry){
				.index = list->index[i], .data = value };
	}
	state_put(s, count, 4);
	for (uint32_t i = 0; i < count; i++) {
		state_put(s, found[i].index, 4);
		state_put(s, found[i].data, 8);
	}
	free(found);
	free(list);
}

static void save_nested(struct kvm_processor *p, struct state *s)
{
	size_t size = p->engine->nested_state_size;
	struct kvm_nested_state *nested = alloc_zeroed(1, size + sizeof *nested);
	nested->size = (uint32_t)size;
	if (!size || ioctl(p->fd, KVM_GET_NESTED_STATE, nested))
		nested->size = 0;
	state_put(s, nested->size, 4);
	state_put_bytes(s, nested, nested->size);
	free(nested);
}

static void save_processor(struct kvm_processor *p, struct state *s)
{
	union part_data data;
	state_section(s, SECTION, SAVE_VERSION);
	for (unsigned i = 0; i < PARTS; i++) {
		memset(&data, 0, sizeof data);
		if (ioctl(p->fd, parts[i].get, &data) < 0)
			panic("%s of processor %u cannot be read: %s", parts[i].name, p->id,
			      strerror(errno));
		state_put_bytes(s, &data, parts[i].size);
	}
	state_put(s, (uint32_t)p->held_vector, 4);
	save_nested(p, s);
	save_msrs(p, s);
}

void kvm_save(struct engine *engine, struct state *s)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	struct kvm_clock_data clock = { 0 };
	ioctl(g->vm, KVM_GET_CLOCK, &clock);
	state_section(s, "kvm", SAVE_VERSION);
	state_put(s, clock.clock, 8);
	state_put(s, atomic_load(&g->intr), 1);
	for (unsigned pin = 0; pin < KVM_IOAPIC_PINS; pin++) {
		state_put(s, g->route[pin].address, 8);
		state_put(s, g->route[pin].data, 4);
	}
	for (unsigned i = 0; i < g->engine.config.processors; i++)
		save_processor(&g->processor[i], s);
}

struct loaded {
	union part_data part[PARTS];
	struct kvm_nested_state *nested;
	struct kvm_msr_entry msr[MAX_SAVED_MSRS];
	uint32_t msrs;
};

static int set_part(struct kvm_processor *p, struct loaded *l, enum part part, struct error *e)
{
	if (!ioctl(p->fd, parts[part].set, &l->part[part]))
		return 0;
	return error_set(e, STATUS_ENGINE,
		"The saved state does not fit this host: %s of processor %u answers \"%s\".",
		parts[part].name, p->id, strerror(errno));
}

static int set_msrs(struct kvm_processor *p, const struct loaded *l, bool (*want)(uint32_t index),
		    struct error *e)
{
	for (uint32_t i = 0; i < l->msrs; i++) {
		uint64_t now;
		const struct kvm_msr_entry *m = &l->msr[i];
		/* A read-only one is no difference while it has the same value. */
		if (!want(m->index) || write_msr(p, m->index, m->data) ||
		    (read_msr(p, m->index, &now) && now == m->data))
			continue;
		return error_set(e, STATUS_ENGINE,
			"The saved state does not fit this host: KVM refuses MSR %#x = %#llx of processor %u.",
			m->index, (unsigned long long)m->data, p->id);
	}
	return 0;
}

static bool is_feature_control(uint32_t index)
{
	return index == MSR_IA32_FEATURE_CONTROL;
}

static bool is_deadline(uint32_t index)
{
	return index == MSR_IA32_TSC_DEADLINE;
}

static bool is_plain(uint32_t index)
{
	return !is_feature_control(index) && !is_deadline(index);
}

static int set_nested(struct kvm_processor *p, struct loaded *l, struct error *e)
{
	if (!l->nested || !ioctl(p->fd, KVM_SET_NESTED_STATE, l->nested))
		return 0;
	return error_set(e, STATUS_ENGINE,
		"The saved state of the guest's own hypervisor does not fit this host: KVM_SET_NESTED_STATE answers \"%s\".",
		strerror(errno));
}

static int apply(struct kvm_processor *p, struct loaded *l, struct error *e)
{
	l->part[PART_EVENTS].events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING |
		KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	if (set_part(p, l, PART_SREGS, e) || set_msrs(p, l, is_feature_control, e) ||
	    set_nested(p, l, e) || set_part(p, l, PART_REGS, e) ||
	    set_part(p, l, PART_XCRS, e) || set_part(p, l, PART_XSAVE, e) ||
	    set_msrs(p, l, is_plain, e) || set_part(p, l, PART_LAPIC, e) ||
	    set_part(p, l, PART_EVENTS, e) || set_part(p, l, PART_MP_STATE, e) ||
	    set_msrs(p, l, is_deadline, e))
		return -1;
	return set_part(p, l, PART_DEBUGREGS, e);
}

static int load_processor(struct kvm_processor *p, struct state *s, struct loaded *l,
			  struct error *e)
{
	if (state_open(s, SECTION) != SAVE_VERSION)
		s->failed = true;
	for (unsigned i = 0; i < PARTS; i++)
		state_get_bytes(s, &l->part[i], parts[i].size);
	p->held_vector = (int)(uint32_t)state_get(s, 4);
	uint32_t size = (uint32_t)state_get(s, 4);
	if (size > MAX_NESTED_STATE)
		s->failed = true;
	if (size && !s->failed) {
		l->nested = alloc_zeroed(1, size + sizeof *l->nested);
		state_get_bytes(s, l->nested, size);
		l->nested->size = size;
	}
	l->msrs = (uint32_t)state_get(s, 4);
	if (l->msrs > MAX_SAVED_MSRS)
		s->failed = true;
	for (uint32_t i = 0; !s->failed && i < l->msrs; i++) {
		l->msr[i].index = (uint32_t)state_get(s, 4);
		l->msr[i].data = state_get(s, 8);
	}
	if (state_finish(s, SECTION, e))
		return -1;
	return apply(p, l, e);
}

int kvm_load(struct engine *engine, struct state *s, struct error *e)
{
	struct kvm_engine *g = kvm_engine_of(engine);
	struct kvm_clock_data clock = { 0 };
	int result = 0;
	if (state_open(s, "kvm") != SAVE_VERSION)
		s->failed = true;
	clock.clock = state_get(s, 8);
	atomic_store(&g->intr, state_get(s, 1) != 0);
	for (unsigned pin = 0; pin < KVM_IOAPIC_PINS; pin++) {
		uint64_t address = state_get(s, 8);
		uint32_t data = (uint32_t)state_get(s, 4);
		kvm_ioapic_route(engine, pin, address, data, true);
	}
	if (state_finish(s, "kvm", e))
		return -1;
	for (unsigned i = 0; !result && i < g->engine.config.processors; i++) {
		struct loaded *l = alloc_zeroed(1, sizeof *l);
		result = load_processor(&g->processor[i], s, l, e);
		free(l->nested);
		free(l);
	}
	if (!result)
		ioctl(g->vm, KVM_SET_CLOCK, &clock);
	return result;
}
