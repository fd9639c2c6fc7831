/* The second processor: started by INIT and SIPI, then it does what it is told. */
#ifndef GUEST_SECOND_H
#define GUEST_SECOND_H

#include "rt.h"

enum { ID = 0x20, EOI = 0xb0, SVR = 0xf0, ICR = 0x300, ICR_HIGH = 0x310 };
enum { ASSERT = 1 << 14, LEVEL = 1 << 15, INIT = 5 << 8, STARTUP = 6 << 8, ALL_BUT_SELF = 3 << 18 };
#define lapic(r) (*(volatile uint32_t *)(0xfee00000ul + (r)))
enum { TRAMPOLINE = 0x8000, OTHER_TRAMPOLINE = 0x9000, STARTED_AT = 0x7ff0 };

/* Wait until the condition holds; false after a long time. */
#define WAIT(condition) ({ \
	uint64_t until_ = rdtsc() + 4000000000ull; \
	bool holds_; \
	while (!(holds_ = (condition)) && rdtsc() < until_) \
		asm volatile("pause" ::: "memory"); \
	holds_; })

extern uint8_t ap_stack[8192];
extern volatile bool ap_alive;
extern void (*volatile ap_work)(void);	/* NULL when it is done */
extern volatile uint64_t ap_loops;	/* turns of its idle loop */
void ap_main(void);
/* INIT and SIPI at this page; true when it is alive. */
bool ap_start(unsigned at);
void ap_stop(void);		/* by INIT */
void send(uint32_t low);	/* an IPI to the other processor */
void pause_for(uint64_t ticks);
#define START() do { if (!ap_start(TRAMPOLINE)) { expect(!"the second processor starts"); return; } } while (0)
#define WORK(f) do { ap_work = f; } while (0)
#define DONE() expect(WAIT(!ap_work))

#endif
