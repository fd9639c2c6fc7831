#include "x86/processor_state.h"

#include "x86/registers.h"

enum {
	RESET_SIGNATURE = 0x600,	/* RDX: 000n06xxh, the family */
	RESET_IP = 0xfff0,
	REAL_LIMIT = 0xffff,
	TYPE_DATA = 0x3,		/* read/write, accessed */
	TYPE_CODE = 0xb,		/* execute/read, accessed */
	TYPE_LDT = 0x2,
	TYPE_TSS_BUSY = 0xb,
};

void processor_state_reset(struct processor_state *p)
{
	memset(p, 0, sizeof *p);
	p->rflags = FLAG_FIXED;
	p->rip = RESET_IP;
	p->cr0 = CR0_CD | CR0_NW | CR0_ET;
	p->gpr[RDX] = RESET_SIGNATURE;
	for (int i = 0; i < SEG_COUNT; i++)
		p->seg[i] = (struct segment){
			.access_rights = TYPE_DATA | AR_S | AR_P, .limit = REAL_LIMIT };
	p->seg[SEG_CS].selector = 0xf000;
	p->seg[SEG_CS].base = 0xffff0000;
	p->seg[SEG_CS].access_rights = TYPE_CODE | AR_S | AR_P;
	p->seg[SEG_LDTR].access_rights = TYPE_LDT | AR_P;
	p->seg[SEG_TR].access_rights = TYPE_TSS_BUSY | AR_P;
	p->gdtr.limit = REAL_LIMIT;
	p->idtr.limit = REAL_LIMIT;
}
