/* Integer instructions that live beside integer.c but in its rule list. */
#ifndef NESTOR_SOFT_INTEGER_H
#define NESTOR_SOFT_INTEGER_H

#include "soft/insn.h"

typedef bool insn_bind(const struct decoded *d, struct insn *out);

/* move.c */
insn_bind bind_mov, bind_movzx, bind_movsx, bind_lea, bind_cmov, bind_setcc, bind_bswap,
	bind_movbe, bind_xlat;
insn_fn do_cbw, do_cwde, do_cdqe, do_cwd, do_cdq, do_cqo;

/* exchange.c */
insn_bind bind_xchg, bind_xadd, bind_cmpxchg, bind_cmpxchg8b, bind_cmpxchg16b;

/* muldiv.c */
insn_bind bind_mul, bind_imul, bind_div, bind_idiv;
insn_fn do_aaa, do_aas, do_aam, do_aad, do_daa, do_das;

/* bits.c (in shift_rules) */
insn_bind bind_bt, bind_bts, bind_btr, bind_btc, bind_bsf, bind_bsr, bind_popcnt, bind_lzcnt,
	bind_tzcnt, bind_crc32, bind_andn, bind_bextr, bind_blsi, bind_blsmsk, bind_blsr, bind_bzhi,
	bind_mulx, bind_pdep, bind_pext, bind_rorx, bind_sarx, bind_shlx, bind_shrx, bind_adcx,
	bind_adox;

/* branch.c (in stack_rules) */
insn_bind bind_jmp, bind_jcc, bind_jcxz, bind_loop, bind_call, bind_ret;

#endif
