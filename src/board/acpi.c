#include "board/acpi.h"

#include "base/log.h"
#include "board/acpi_pm.h"
#include "board/aml.h"
#include "board/i440fx.h"
#include "board/ioapic.h"
#include "board/mc146818.h"

#include <stdio.h>
#include <stdlib.h>

/* Tables of the ACPI Specification 6.4, by its names: RSDP -> RSDT and XSDT ->
 * FADT (-> FACS, DSDT) and MADT. Everything that never changes while the VM
 * runs is in these; there is no AML method, only names. */

#define OEM_ID "NESTOR"
#define OEM_TABLE_ID "NESTORPC"
#define CREATOR_ID "NSTR"
#define LAPIC_BASE 0xfee00000u

enum { TABLE_ALIGN = 16, FACS_ALIGN = 64, OEM_REVISION = 1 };

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));
enum { RSDP_OLD_SIZE = 20, RSDP_REVISION = 2 };

struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct facs {
	char signature[4];
	uint32_t length;
	uint32_t hardware_signature, waking_vector, global_lock, flags;
	uint64_t x_waking_vector;
	uint8_t version;
	uint8_t reserved[31];
} __attribute__((packed));
enum { FACS_VERSION = 1 };

/* Generic Address Structure */
struct address {
	uint8_t space, bit_width, bit_offset, access_size;
	uint64_t address;
} __attribute__((packed));
enum { SPACE_IO = 1, ACCESS_BYTE = 1, ACCESS_WORD = 2, ACCESS_DWORD = 3 };

struct fadt {
	struct header header;
	uint32_t firmware_ctrl, dsdt;
	uint8_t reserved_1, preferred_pm_profile;
	uint16_t sci_int;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk;
	uint32_t pm2_cnt_blk, pm_tmr_blk, gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
	uint8_t gpe0_blk_len, gpe1_blk_len, gpe1_base, cst_cnt;
	uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alrm, mon_alrm, century;
	uint16_t iapc_boot_arch;
	uint8_t reserved_2;
	uint32_t flags;
	struct address reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl, x_dsdt;
	struct address x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk;
	struct address x_pm2_cnt_blk, x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
} __attribute__((packed));
enum {
	FADT_REVISION = 4,		/* the last of this length */
	PM1_EVT_LEN = 4, PM1_CNT_LEN = 2, PM_TMR_LEN = 4,
	NO_C2 = 101, NO_C3 = 1001,	/* latencies that mean "not supported" */
	/* IA-PC Boot Architecture Flags */
	LEGACY_DEVICES = 1 << 0, VGA_NOT_PRESENT = 1 << 2,
	/* Fixed Feature Flags */
	WBINVD = 1 << 0, PROC_C1 = 1 << 2, SLP_BUTTON = 1 << 5, FIX_RTC = 1 << 6,
	TMR_VAL_EXT = 1 << 8, RESET_REG_SUP = 1 << 10,
};

struct madt {
	struct header header;
	uint32_t lapic_address, flags;
} __attribute__((packed));
enum { MADT_REVISION = 4, PCAT_COMPAT = 1 };

struct madt_lapic {
	uint8_t type, length, processor_uid, apic_id;
	uint32_t flags;
} __attribute__((packed));
struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));
struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));
struct madt_lapic_nmi {
	uint8_t type, length, processor_uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));
enum {
	MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4,
	LAPIC_ENABLED = 1,
	CONFORMS = 0, ACTIVE_HIGH_LEVEL = 0xd,	/* MPS INTI flags */
	ALL_PROCESSORS = 0xff, LINT1 = 1,
};

/* The area, filled from the front. */
struct area {
	struct memory *memory;
	uint64_t at;
	bool full;
};

static uint64_t place(struct area *a, const void *table, size_t n, uint64_t align)
{
	uint64_t at = align_up(a->at, align);
	if (at + n > ACPI_AREA_END || !memory_write(a->memory, at, table, n))
		a->full = true;
	a->at = at + n;
	return at;
}

/* The byte that makes the sum of all n bytes zero. */
static uint8_t checksum(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint8_t sum = 0;
	while (n--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

static struct header header(const char signature[4], uint8_t revision)
{
	struct header h = { .revision = revision, .oem_revision = OEM_REVISION,
			    .creator_revision = OEM_REVISION };
	memcpy(h.signature, signature, sizeof h.signature);
	memcpy(h.oem_id, OEM_ID, sizeof h.oem_id);
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof h.oem_table_id);
	memcpy(h.creator_id, CREATOR_ID, sizeof h.creator_id);
	return h;
}

/* table begins with a struct header; length and checksum are filled in. */
static void finish(void *table, size_t n)
{
	struct header *h = table;
	h->length = (uint32_t)n;
	h->checksum = 0;
	h->checksum = checksum(table, n);
}

/* --- DSDT --- */

static void add_hid(struct aml *a, const char *eisa_id, unsigned uid)
{
	aml_name(a, "_HID");
	aml_eisa_id(a, eisa_id);
	aml_name(a, "_UID");
	aml_integer(a, uid);
}

static void add_host_bridge_resources(struct aml *a)
{
	aml_name(a, "_CRS");
	size_t buffer = aml_buffer(a);
	resource_window_16(a, RESOURCE_BUS, 0, 0xff);
	/* CONFIG_ADDRESS and CONFIG_DATA are the bridge's own. */
	resource_io(a, 0xcf8, 8);
	resource_window_16(a, RESOURCE_IO, 0, 0xcf7);
	resource_window_16(a, RESOURCE_IO, 0xd00, 0xffff);
	resource_window_32(a, RESOURCE_MEMORY, PCI_MEMORY_WINDOW,
			   PCI_MEMORY_WINDOW_END - 1);
	resource_end(a);
	aml_buffer_end(a, buffer);
}

/* Package { slot and any function, pin, no link device, GSI } */
static void add_interrupt_routing(struct aml *a)
{
	enum { ANY_FUNCTION = 0xffff, SLOT_SHIFT = 16, FIELDS = 4 };
	aml_name(a, "_PRT");
	size_t table = aml_package(a, PCI_SLOTS * PCI_INTX_LINES);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		for (unsigned pin = 0; pin < PCI_INTX_LINES; pin++) {
			size_t entry = aml_package(a, FIELDS);
			aml_integer(a, slot << SLOT_SHIFT | ANY_FUNCTION);
			aml_integer(a, pin);
			aml_integer(a, 0);
			aml_integer(a, ACPI_PCI_GSI + pci_intx_line(slot, pin + 1));
			aml_end(a, entry);
		}
	aml_end(a, table);
}

struct isa_device {
	const char *name, *eisa_id;
	uint16_t port;
	uint8_t ports;
	unsigned irq;
};

static const struct isa_device isa_devices[] = {
	{ "COM1", "PNP0501", 0x3f8, 8, 4 },
	{ "RTC_", "PNP0B00", MC146818_PORT, 2, 8 },
};

static void add_isa_bridge(struct aml *a)
{
	size_t bridge = aml_device(a, "ISA_");
	aml_name(a, "_ADR");
	aml_integer(a, I440FX_PIIX_SLOT << 16);
	for (unsigned i = 0; i < ARRAY_SIZE(isa_devices); i++) {
		const struct isa_device *d = &isa_devices[i];
		size_t device = aml_device(a, d->name);
		add_hid(a, d->eisa_id, 0);
		aml_name(a, "_CRS");
		size_t buffer = aml_buffer(a);
		resource_io(a, d->port, d->ports);
		resource_irq(a, d->irq);
		resource_end(a);
		aml_buffer_end(a, buffer);
		aml_end(a, device);
	}
	aml_end(a, bridge);
}

static void add_processors(struct aml *a, unsigned processors)
{
	char name[16];
	for (unsigned i = 0; i < processors; i++) {
		snprintf(name, sizeof name, "C%03X", i);
		size_t device = aml_device(a, name);
		aml_name(a, "_HID");
		aml_string(a, "ACPI0007");
		aml_name(a, "_UID");
		aml_integer(a, i);
		aml_end(a, device);
	}
}

static void add_soft_off(struct aml *a)
{
	enum { FIELDS = 4 };
	aml_name(a, "\\_S5_");
	size_t package = aml_package(a, FIELDS);
	aml_integer(a, ACPI_SLP_TYP_S5);
	aml_integer(a, ACPI_SLP_TYP_S5);
	aml_integer(a, 0);
	aml_integer(a, 0);
	aml_end(a, package);
}

struct acpi_table acpi_dsdt(unsigned processors)
{
	enum { DSDT_REVISION = 2 };	/* 64-bit integers */
	struct aml a = { 0 };
	struct header h = header("DSDT", DSDT_REVISION);
	aml_bytes(&a, &h, sizeof h);
	size_t bus = aml_scope(&a, "\\_SB_");
	add_processors(&a, processors);
	size_t bridge = aml_device(&a, "PCI0");
	add_hid(&a, "PNP0A03", 0);
	add_host_bridge_resources(&a);
	add_interrupt_routing(&a);
	add_isa_bridge(&a);
	aml_end(&a, bridge);
	aml_end(&a, bus);
	add_soft_off(&a);
	finish(a.data, a.size);
	return (struct acpi_table){ a.data, a.size };
}

/* --- the other tables --- */

static struct address io_address(uint16_t port, unsigned bytes, uint8_t access)
{
	return (struct address){ SPACE_IO, (uint8_t)(bytes * 8), 0, access, port };
}

static uint64_t place_fadt(struct area *a, uint64_t facs, uint64_t dsdt)
{
	struct fadt f = {
		.header = header("FACP", FADT_REVISION),
		.firmware_ctrl = (uint32_t)facs, .dsdt = (uint32_t)dsdt,
		.sci_int = ACPI_SCI_IRQ,
		.pm1a_evt_blk = ACPI_PM1A_EVENT, .pm1_evt_len = PM1_EVT_LEN,
		.pm1a_cnt_blk = ACPI_PM1A_CONTROL, .pm1_cnt_len = PM1_CNT_LEN,
		.pm_tmr_blk = ACPI_PM_TIMER, .pm_tmr_len = PM_TMR_LEN,
		.p_lvl2_lat = NO_C2, .p_lvl3_lat = NO_C3,
		.century = CMOS_CENTURY,
		.iapc_boot_arch = LEGACY_DEVICES | VGA_NOT_PRESENT,
		.flags = WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | TMR_VAL_EXT | RESET_REG_SUP,
		.reset_reg = io_address(ACPI_RESET_CONTROL, 1, ACCESS_BYTE),
		.reset_value = ACPI_RESET_VALUE,
		.x_firmware_ctrl = facs, .x_dsdt = dsdt,
		.x_pm1a_evt_blk = io_address(ACPI_PM1A_EVENT, PM1_EVT_LEN, ACCESS_WORD),
		.x_pm1a_cnt_blk = io_address(ACPI_PM1A_CONTROL, PM1_CNT_LEN, ACCESS_WORD),
		.x_pm_tmr_blk = io_address(ACPI_PM_TIMER, PM_TMR_LEN, ACCESS_DWORD),
	};
	finish(&f, sizeof f);
	return place(a, &f, sizeof f, TABLE_ALIGN);
}

static uint64_t place_madt(struct area *area, unsigned processors)
{
	struct aml bytes = { 0 };	/* used as a growing buffer */
	struct madt m = { header("APIC", MADT_REVISION), LAPIC_BASE, PCAT_COMPAT };
	aml_bytes(&bytes, &m, sizeof m);
	for (unsigned i = 0; i < processors; i++) {
		struct madt_lapic l = { MADT_LAPIC, sizeof l, (uint8_t)i, (uint8_t)i,
					LAPIC_ENABLED };
		aml_bytes(&bytes, &l, sizeof l);
	}
	struct madt_ioapic io = { MADT_IOAPIC, sizeof io, .address = IOAPIC_BASE };
	struct madt_override pit = { MADT_OVERRIDE, sizeof pit, .source = 0,
				     .gsi = ACPI_PIT_GSI, .flags = CONFORMS };
	struct madt_override sci = { MADT_OVERRIDE, sizeof sci, .source = ACPI_SCI_IRQ,
				     .gsi = ACPI_SCI_IRQ, .flags = ACTIVE_HIGH_LEVEL };
	struct madt_lapic_nmi nmi = { MADT_LAPIC_NMI, sizeof nmi, ALL_PROCESSORS, CONFORMS,
				      LINT1 };
	aml_bytes(&bytes, &io, sizeof io);
	aml_bytes(&bytes, &pit, sizeof pit);
	aml_bytes(&bytes, &sci, sizeof sci);
	aml_bytes(&bytes, &nmi, sizeof nmi);
	finish(bytes.data, bytes.size);
	uint64_t at = place(area, bytes.data, bytes.size, TABLE_ALIGN);
	aml_free(&bytes);
	return at;
}

static uint64_t place_facs(struct area *a)
{
	struct facs f = { .length = sizeof f, .version = FACS_VERSION };
	memcpy(f.signature, "FACS", sizeof f.signature);
	return place(a, &f, sizeof f, FACS_ALIGN);
}

static uint64_t place_dsdt(struct area *a, unsigned processors)
{
	struct acpi_table t = acpi_dsdt(processors);
	uint64_t at = place(a, t.data, t.size, TABLE_ALIGN);
	free(t.data);
	return at;
}

/* RSDT (entries of 4 bytes) or XSDT (of 8). */
static uint64_t place_root(struct area *a, const char *signature, const uint64_t *table,
			   unsigned tables, unsigned entry_size)
{
	struct aml bytes = { 0 };
	struct header h = header(signature, 1);
	aml_bytes(&bytes, &h, sizeof h);
	for (unsigned i = 0; i < tables; i++) {
		uint8_t entry[8];
		store_le(entry, table[i], sizeof entry);
		aml_bytes(&bytes, entry, entry_size);
	}
	finish(bytes.data, bytes.size);
	uint64_t at = place(a, bytes.data, bytes.size, TABLE_ALIGN);
	aml_free(&bytes);
	return at;
}

uint64_t acpi_write_tables(struct memory *m, unsigned processors, struct error *e)
{
	struct area a = { m, ACPI_AREA_BASE + sizeof(struct rsdp), false };
	uint64_t facs = place_facs(&a);
	uint64_t dsdt = place_dsdt(&a, processors);
	uint64_t table[2] = { place_fadt(&a, facs, dsdt), place_madt(&a, processors) };
	struct rsdp r = { .revision = RSDP_REVISION, .length = sizeof r };
	r.rsdt = (uint32_t)place_root(&a, "RSDT", table, ARRAY_SIZE(table), 4);
	r.xsdt = place_root(&a, "XSDT", table, ARRAY_SIZE(table), 8);
	memcpy(r.signature, "RSD PTR ", sizeof r.signature);
	memcpy(r.oem_id, OEM_ID, sizeof r.oem_id);
	r.checksum = checksum(&r, RSDP_OLD_SIZE);
	r.extended_checksum = checksum(&r, sizeof r);
	if (a.full || !memory_write(m, ACPI_AREA_BASE, &r, sizeof r)) {
		error_set(e, STATUS_USAGE,
			"The VM's %llu MiB of memory do not reach the area of the ACPI tables at %#llx; give it 2 MiB or more.",
			(unsigned long long)(m->size / MIB), ACPI_AREA_BASE);
		return 0;
	}
	return ACPI_AREA_BASE;
}
