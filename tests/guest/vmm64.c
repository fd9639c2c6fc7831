/* A hypervisor that boots another of these guests, its first multiboot module,
 * in memory of its own behind EPT, from 32-bit protected mode without paging:
 * "unrestricted guest", real and virtual-8086 mode, 32-bit and PAE paging in
 * VMX non-root operation. The guest's rules are what is checked; its options
 * are the module's. Task switches always exit and are not done here: the guest
 * gets the option "tasks=off". */
#include "rt/vmx.h"

const char chapter[] = "hypervisor";
void chapter_setup(void) { }

enum {
	GUEST_AT = 32 << 20, GUEST_SIZE = 16 << 20,	/* guest-physical 0 is here */
	GUEST_INFORMATION = 0x500, GUEST_COMMAND_LINE = 0x600, COMMAND_LINE_MAX = 200,
	MULTIBOOT_LOADED = 0x2badb002, INFORMATION_COMMAND_LINE = 4, INFORMATION_MODULES = 8,
};
struct module { uint32_t start, end, string, reserved; };
struct elf_header {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version, entry, phoff, shoff, flags;
	uint16_t ehsize, phentsize, phnum;
};
struct elf_segment { uint32_t type, offset, vaddr, paddr, filesz, memsz, flags, align; };
enum { PT_LOAD = 1 };
extern uint32_t boot_information;

static const struct module *module(void)
{
	const uint32_t *information = (const uint32_t *)(word)boot_information;
	if (!(information[0] & INFORMATION_MODULES) || !information[5])
		return NULL;
	return (const struct module *)(word)information[6];
}

/* The guest's image into its memory; its entry, or 0. */
static uint32_t load(const struct module *m)
{
	const uint8_t *file = (const uint8_t *)(word)m->start;
	const struct elf_header *h = (const struct elf_header *)file;
	if (m->end - m->start < sizeof *h || h->ident[0] != 0x7f || h->ident[1] != 'E')
		return 0;
	for (unsigned n = 0; n < h->phnum; n++) {
		const struct elf_segment *s = (const struct elf_segment *)(file + h->phoff + n * h->phentsize);
		if (s->type != PT_LOAD)
			continue;
		if (s->paddr > GUEST_SIZE || s->memsz > GUEST_SIZE - s->paddr)
			return 0;
		memory_fill((void *)(word)(GUEST_AT + s->paddr), 0, s->memsz);
		memory_copy((void *)(word)(GUEST_AT + s->paddr), file + s->offset, s->filesz);
	}
	return h->entry;
}

static void command_line(const char *from)
{
	uint32_t *information = (uint32_t *)(word)(GUEST_AT + GUEST_INFORMATION);
	char *to = (char *)(word)(GUEST_AT + GUEST_COMMAND_LINE);
	memory_fill(information, 0, 64);
	information[0] = INFORMATION_COMMAND_LINE;
	information[4] = GUEST_COMMAND_LINE;
	unsigned n = 0;
	while (from[n] && n < COMMAND_LINE_MAX) {
		to[n] = from[n];
		n++;
	}
	memory_copy(to + n, " tasks=off", sizeof " tasks=off");
}

RULE(the_module_runs_as_a_guest)
{
	const struct module *m = module();
	if (!m) {
		skip("no module");
		return;
	}
	if (cpuid(1, 0).c >> 26 & 1)
		set_cr4(cr4() | CR4_OSXSAVE);
	uint32_t entry = load(m);
	expect(entry != 0);
	if (!entry || !vmx_begin() || !ept_begin(0))
		return;
	for (unsigned n = 0; n < GUEST_SIZE >> 21; n++)
		*ept_entry((uint64_t)n << 21, 2) = (GUEST_AT + ((uint64_t)n << 21)) | EPT_RWX | EPT_WB | EPT_LARGE;
	command_line((const char *)(word)m->string);
	vmx_pass_through();
	if (!control(SECONDARY, CPU2_UNRESTRICTED, 0) || !control(ENTRY_CONTROLS, 0, ENTRY_IA32E))
		return;
	vmwrite(VPID, 1);
	control(SECONDARY, CPU2_VPID, 0);
	vmwrite(G_CR0, CR0_PE | CR0_NE | BIT(4));
	vmwrite(G_CR3, 0);
	vmwrite(G_CR4, CR4_VMXE);
	vmwrite(G_EFER, 0);
	vmwrite(G_CS, SEL_K32);
	vmwrite(G_CS_AR, 0xc09b);
	vmwrite(G_TR, 0);
	vmwrite(G_GDTR_LIMIT, 0);
	vmwrite(G_IDTR_LIMIT, 0);
	vmwrite(G_RIP, entry);
	vmwrite(G_RSP, 0);
	registers.ax = MULTIBOOT_LOADED;
	registers.bx = GUEST_INFORMATION;
	vmx_hypervise();
}
