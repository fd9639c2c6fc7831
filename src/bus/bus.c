#include "bus/bus.h"

#include "base/bits.h"
#include "base/log.h"

#include <stdlib.h>

struct claim {
	uint64_t base, last;
	const struct bus_ops *ops;
	void *owner;
	const char *name;
};

struct bus {
	pthread_mutex_t lock;
	struct {
		struct claim *claim;	/* sorted by base */
		unsigned count;
	} space[BUS_SPACES];
};

static const char *const space_name[BUS_SPACES] = { "port", "memory" };

struct bus *bus_create(void)
{
	struct bus *b = alloc_zeroed(1, sizeof *b);
	pthread_mutex_init(&b->lock, NULL);
	return b;
}

void bus_destroy(struct bus *b)
{
	for (unsigned i = 0; i < BUS_SPACES; i++)
		free(b->space[i].claim);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

pthread_mutex_t *bus_lock(struct bus *b)
{
	return &b->lock;
}

/* Index of the first claim whose end is at or after address. */
static unsigned claim_at(const struct bus *b, enum bus_space space, uint64_t address)
{
	unsigned low = 0, high = b->space[space].count;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (b->space[space].claim[middle].last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int bus_claim(struct bus *b, enum bus_space space, uint64_t base, uint64_t length,
	      const struct bus_ops *ops, void *owner, const char *name, struct error *e)
{
	unsigned at = claim_at(b, space, base);
	unsigned count = b->space[space].count;
	struct claim *list = b->space[space].claim;
	if (!length || base + length - 1 < base)
		return error_set(e, STATUS_FAULT, "%s asks for an impossible %s range %#llx+%#llx.",
			name, space_name[space], (unsigned long long)base,
			(unsigned long long)length);
	if (at < count && list[at].base <= base + length - 1)
		return error_set(e, STATUS_FAULT, "%s and %s both claim %s %#llx.",
			name, list[at].name, space_name[space], (unsigned long long)base);
	list = alloc_resize(list, count + 1, sizeof *list);
	memmove(&list[at + 1], &list[at], (count - at) * sizeof *list);
	list[at] = (struct claim){ base, base + length - 1, ops, owner, name };
	b->space[space].claim = list;
	b->space[space].count = count + 1;
	return 0;
}

void bus_release(struct bus *b, enum bus_space space, uint64_t base)
{
	unsigned at = claim_at(b, space, base);
	struct claim *list = b->space[space].claim;
	if (at == b->space[space].count || list[at].base != base)
		return;
	b->space[space].count--;
	memmove(&list[at], &list[at + 1], (b->space[space].count - at) * sizeof *list);
}

/* The claim that holds all of address..address+size-1, or NULL. */
static const struct claim *claim_for(const struct bus *b, enum bus_space space,
				     uint64_t address, unsigned size)
{
	unsigned at = claim_at(b, space, address);
	const struct claim *c = &b->space[space].claim[at];
	if (at == b->space[space].count || c->base > address || c->last - address < size - 1)
		return NULL;
	return c;
}

/* Whether the access touches some claim without lying inside it: such a one
 * is taken apart into bytes, as a bus bridge would. */
static bool straddles(const struct bus *b, enum bus_space space, uint64_t address, unsigned size)
{
	unsigned at = claim_at(b, space, address);
	return at < b->space[space].count &&
		b->space[space].claim[at].base <= address + size - 1;
}

static uint64_t read_locked(struct bus *b, enum bus_space space, uint64_t address, unsigned size)
{
	const struct claim *c = claim_for(b, space, address, size);
	uint64_t value = ~0ull;
	if (c)
		value = c->ops->read(c->owner, address - c->base, size);
	else if (size > 1 && straddles(b, space, address, size)) {
		value = 0;
		for (unsigned i = 0; i < size; i++)
			value |= read_locked(b, space, address + i, 1) << (8 * i);
	}
	return bits_trim(value, size);
}

static void write_locked(struct bus *b, enum bus_space space, uint64_t address, unsigned size,
			 uint64_t value)
{
	const struct claim *c = claim_for(b, space, address, size);
	if (c)
		c->ops->write(c->owner, address - c->base, size, bits_trim(value, size));
	else if (size > 1 && straddles(b, space, address, size))
		for (unsigned i = 0; i < size; i++)
			write_locked(b, space, address + i, 1, value >> (8 * i));
}

uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t address, unsigned size)
{
	pthread_mutex_lock(&b->lock);
	uint64_t value = read_locked(b, space, address, size);
	pthread_mutex_unlock(&b->lock);
	if (space == BUS_IO)
		trace(IO, "in%u %#llx -> %#llx", size * 8, (unsigned long long)address,
		      (unsigned long long)value);
	else
		trace(MMIO, "read%u %#llx -> %#llx", size * 8, (unsigned long long)address,
		      (unsigned long long)value);
	return value;
}

void bus_write(struct bus *b, enum bus_space space, uint64_t address, unsigned size,
	       uint64_t value)
{
	if (space == BUS_IO)
		trace(IO, "out%u %#llx <- %#llx", size * 8, (unsigned long long)address,
		      (unsigned long long)value);
	else
		trace(MMIO, "write%u %#llx <- %#llx", size * 8, (unsigned long long)address,
		      (unsigned long long)value);
	pthread_mutex_lock(&b->lock);
	write_locked(b, space, address, size, value);
	pthread_mutex_unlock(&b->lock);
}
