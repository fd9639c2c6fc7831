#include "second.h"

/* Real mode to ap_main, like entry.S; first it says at which CS it began. */
SNIPPET16(trampoline,
	"cli; mov %cs, %ax; xor %bx, %bx; mov %bx, %ds; mov %ax, 0x7ff0; incw 0x7ff2;"
	"lgdtl 0x7fe0; mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4; mov 0x7ff4, %eax; mov %eax, %cr3;"
	"mov $0xc0000080, %ecx; rdmsr; or $0x901, %eax; wrmsr; mov %cr0, %eax; or $0x80010001, %eax; mov %eax, %cr0;"
	"ljmpl $0x10, $ap_entry");
uint8_t ap_stack[8192] __attribute__((aligned(16)));
asm(".pushsection .text\n ap_entry: mov $0x18, %eax; mov %eax, %ss; mov %eax, %ds; mov %eax, %es; mov $ap_stack + 8192, %esp;"
    "xor %eax, %eax; push %rax; jmp ap_main\n.popsection");

volatile bool ap_alive;
void (*volatile ap_work)(void);
volatile uint64_t ap_loops;
void ap_main(void)
{
	struct table_pointer p = { sizeof idt - 1, (word)idt };
	asm volatile("lidt %0" :: "m"(p));
	lapic(SVR) = 0x1ff;
	ap_alive = true;
	for (;;) {
		void (*work)(void) = ap_work;
		if (work) {
			work();
			ap_work = NULL;
		}
		ap_loops++;
		asm volatile("pause");
	}
}

static uint32_t other_id(void) { return lapic(ID) >> 24 ? 0 : 1u << 24; }
void send(uint32_t low)
{
	lapic(ICR_HIGH) = other_id();
	lapic(ICR) = low;
	WAIT(!(lapic(ICR) & 1 << 12));
}
void pause_for(uint64_t ticks)
{
	uint64_t until = rdtsc() + ticks;
	while (rdtsc() < until)
		asm volatile("pause");
}

static void place(unsigned at)
{
	memory_copy((void *)(word)at, trampoline, (size_t)(trampoline_end - trampoline));
	*(volatile uint16_t *)0x7fe0 = sizeof gdt - 1;
	*(volatile uint32_t *)0x7fe2 = (uint32_t)(word)gdt;
	*(volatile uint32_t *)0x7ff4 = (uint32_t)(word)boot_pml4;
	*(volatile uint32_t *)STARTED_AT = 0;
}

bool ap_start(unsigned at)
{
	ap_alive = false;
	ap_work = NULL;
	place(at);
	send(INIT | ASSERT);
	pause_for(1000000);
	send(STARTUP | ASSERT | at >> 12);
	return WAIT(ap_alive);
}
void ap_stop(void)
{
	send(INIT | ASSERT);
}
