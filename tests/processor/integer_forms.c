#include "integer_forms.h"

#define ALU(name, base, n, lock) \
	{ name, MAP_1, 0, base, 0, RM | SLASH_R | lock | BYTE_RM, S8, 0, PLAIN }, \
	{ name, MAP_1, 0, base + 1, 0, RM | SLASH_R | lock, WIDE, 0, PLAIN }, \
	{ name, MAP_1, 0, base + 2, 0, RM | SLASH_R | BYTE_RM, S8, 0, PLAIN }, \
	{ name, MAP_1, 0, base + 3, 0, RM | SLASH_R, WIDE, 0, PLAIN }, \
	{ name, MAP_1, 0, base + 4, 0, 0, S8, IMM_8, PLAIN }, \
	{ name, MAP_1, 0, base + 5, 0, 0, WIDE, IMM_Z, PLAIN }, \
	{ name, MAP_1, 0, 0x80, n, RM | lock | BYTE_RM, S8, IMM_8, PLAIN }, \
	{ name, MAP_1, 0, 0x81, n, RM | lock, WIDE, IMM_Z, PLAIN }, \
	{ name, MAP_1, 0, 0x83, n, RM | lock, WIDE, IMM_8, PLAIN }

#define UNARY(name, op, n, lock, care) \
	{ name, MAP_1, 0, op, n, RM | lock | BYTE_RM, S8, 0, care }, \
	{ name, MAP_1, 0, op + 1, n, RM | lock, WIDE, 0, care }

#define SHIFT(name, n) \
	{ name " imm", MAP_1, 0, 0xc0, n, RM | BYTE_RM, S8, IMM_8, PLAIN }, \
	{ name " imm", MAP_1, 0, 0xc1, n, RM, WIDE, IMM_8, PLAIN }, \
	{ name " 1", MAP_1, 0, 0xd0, n, RM | BYTE_RM, S8, 0, PLAIN }, \
	{ name " 1", MAP_1, 0, 0xd1, n, RM, WIDE, 0, PLAIN }, \
	{ name " cl", MAP_1, 0, 0xd2, n, RM | BYTE_RM, S8, 0, PLAIN }, \
	{ name " cl", MAP_1, 0, 0xd3, n, RM, WIDE, 0, PLAIN }

#define BITS(name, op, n, lock) \
	{ name, MAP_0F, 0, op, 0, REG | SLASH_R, WIDE, 0, PLAIN }, \
	{ name, MAP_0F, 0, op, 0, MEM | SLASH_R | lock, WIDE, 0, BIT_STRING }, \
	{ name, MAP_0F, 0, 0xba, n, RM | lock, WIDE, IMM_8, PLAIN }

#define STRINGS(name, op) \
	{ name, MAP_1, 0, op, 0, 0, S8, 0, STRING }, \
	{ name, MAP_1, 0, op + 1, 0, 0, WIDE, 0, STRING }

#define S32_64 (S32 | S64)

const struct form integer_forms[] = {
	ALU("add", 0x00, 0, LOCK), ALU("or", 0x08, 1, LOCK), ALU("adc", 0x10, 2, LOCK),
	ALU("sbb", 0x18, 3, LOCK), ALU("and", 0x20, 4, LOCK), ALU("sub", 0x28, 5, LOCK),
	ALU("xor", 0x30, 6, LOCK), ALU("cmp", 0x38, 7, 0),
	{ "test", MAP_1, 0, 0x84, 0, RM | SLASH_R | BYTE_RM, S8, 0, PLAIN },
	{ "test", MAP_1, 0, 0x85, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "test", MAP_1, 0, 0xa8, 0, 0, S8, IMM_8, PLAIN },
	{ "test", MAP_1, 0, 0xa9, 0, 0, WIDE, IMM_Z, PLAIN },
	{ "test", MAP_1, 0, 0xf6, 0, RM | BYTE_RM, S8, IMM_8, PLAIN },
	{ "test", MAP_1, 0, 0xf7, 0, RM, WIDE, IMM_Z, PLAIN },
	UNARY("not", 0xf6, 2, LOCK, PLAIN), UNARY("neg", 0xf6, 3, LOCK, PLAIN),
	UNARY("mul", 0xf6, 4, 0, PLAIN), UNARY("imul", 0xf6, 5, 0, PLAIN),
	UNARY("div", 0xf6, 6, 0, DIVISION), UNARY("idiv", 0xf6, 7, 0, DIVISION),
	UNARY("inc", 0xfe, 0, LOCK, PLAIN), UNARY("dec", 0xfe, 1, LOCK, PLAIN),
	{ "imul r,rm", MAP_0F, 0, 0xaf, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "imul r,rm,imm", MAP_1, 0, 0x69, 0, RM | SLASH_R, WIDE, IMM_Z, PLAIN },
	{ "imul r,rm,imm8", MAP_1, 0, 0x6b, 0, RM | SLASH_R, WIDE, IMM_8, PLAIN },

	{ "mov", MAP_1, 0, 0x88, 0, RM | SLASH_R | BYTE_RM, S8, 0, PLAIN },
	{ "mov", MAP_1, 0, 0x89, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "mov", MAP_1, 0, 0x8a, 0, RM | SLASH_R | BYTE_RM, S8, 0, PLAIN },
	{ "mov", MAP_1, 0, 0x8b, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "mov moffs", MAP_1, 0, 0xa0, 0, 0, S8, 0, MOFFS },
	{ "mov moffs", MAP_1, 0, 0xa1, 0, 0, WIDE, 0, MOFFS },
	{ "mov moffs", MAP_1, 0, 0xa2, 0, 0, S8, 0, MOFFS },
	{ "mov moffs", MAP_1, 0, 0xa3, 0, 0, WIDE, 0, MOFFS },
	{ "mov", MAP_1, 0, 0xb0, 0, OPCODE_REG | BYTE_RM, S8, IMM_8, PLAIN },
	{ "mov", MAP_1, 0, 0xb8, 0, OPCODE_REG, WIDE, IMM_V, PLAIN },
	{ "mov", MAP_1, 0, 0xc6, 0, RM | BYTE_RM, S8, IMM_8, PLAIN },
	{ "mov", MAP_1, 0, 0xc7, 0, RM, WIDE, IMM_Z, PLAIN },
	{ "movzx 8", MAP_0F, 0, 0xb6, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "movzx 16", MAP_0F, 0, 0xb7, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "movsx 8", MAP_0F, 0, 0xbe, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "movsx 16", MAP_0F, 0, 0xbf, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "movsxd", MAP_1, 0, 0x63, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "lea", MAP_1, 0, 0x8d, 0, MEM | SLASH_R, WIDE, 0, PLAIN },
	{ "bswap", MAP_0F, 0, 0xc8, 0, OPCODE_REG, S32_64, 0, PLAIN },
	{ "movbe", MAP_0F38, 0, 0xf0, 0, MEM | SLASH_R, WIDE, 0, PLAIN },
	{ "movbe", MAP_0F38, 0, 0xf1, 0, MEM | SLASH_R, WIDE, 0, PLAIN },
	{ "xlat", MAP_1, 0, 0xd7, 0, 0, S8, 0, TABLE },
	{ "cmov", MAP_0F, 0, 0x40, 0, RM | SLASH_R | CONDITION, WIDE, 0, PLAIN },
	{ "set", MAP_0F, 0, 0x90, 0, RM | CONDITION | BYTE_RM, S8, 0, PLAIN },
	{ "cbw", MAP_1, 0, 0x98, 0, 0, WIDE, 0, PLAIN },
	{ "cwd", MAP_1, 0, 0x99, 0, 0, WIDE, 0, PLAIN },
	{ "xchg", MAP_1, 0, 0x86, 0, RM | SLASH_R | LOCK | BYTE_RM, S8, 0, PLAIN },
	{ "xchg", MAP_1, 0, 0x87, 0, RM | SLASH_R | LOCK, WIDE, 0, PLAIN },
	{ "xchg acc", MAP_1, 0, 0x90, 0, OPCODE_REG, WIDE, 0, PLAIN },
	{ "xadd", MAP_0F, 0, 0xc0, 0, RM | SLASH_R | LOCK | BYTE_RM, S8, 0, PLAIN },
	{ "xadd", MAP_0F, 0, 0xc1, 0, RM | SLASH_R | LOCK, WIDE, 0, PLAIN },
	{ "cmpxchg", MAP_0F, 0, 0xb0, 0, RM | SLASH_R | LOCK | BYTE_RM, S8, 0, EXCHANGE },
	{ "cmpxchg", MAP_0F, 0, 0xb1, 0, RM | SLASH_R | LOCK, WIDE, 0, EXCHANGE },
	{ "cmpxchg8b/16b", MAP_0F, 0, 0xc7, 1, MEM | LOCK, S32_64, 0, EXCHANGE },

	{ "lahf", MAP_1, 0, 0x9f, 0, 0, S8, 0, PLAIN }, { "sahf", MAP_1, 0, 0x9e, 0, 0, S8, 0, PLAIN },
	{ "clc", MAP_1, 0, 0xf8, 0, 0, S8, 0, PLAIN }, { "stc", MAP_1, 0, 0xf9, 0, 0, S8, 0, PLAIN },
	{ "cmc", MAP_1, 0, 0xf5, 0, 0, S8, 0, PLAIN }, { "cld", MAP_1, 0, 0xfc, 0, 0, S8, 0, PLAIN },
	{ "std", MAP_1, 0, 0xfd, 0, 0, S8, 0, PLAIN }, { "nop", MAP_1, 0, 0x90, 0, 0, WIDE, 0, PLAIN },
	{ "nop rm", MAP_0F, 0, 0x1f, 0, RM, WIDE, 0, PLAIN },
	{ "nop 0f1e", MAP_0F, 0, 0x1e, 0, MEM, WIDE, 0, PLAIN },
	{ "prefetch", MAP_0F, 0, 0x18, 1, MEM, S32, 0, PLAIN },
	{ "prefetchw", MAP_0F, 0, 0x0d, 1, MEM, S32, 0, PLAIN },

	SHIFT("rol", 0), SHIFT("ror", 1), SHIFT("rcl", 2), SHIFT("rcr", 3), SHIFT("shl", 4),
	SHIFT("shr", 5), SHIFT("sal", 6), SHIFT("sar", 7),
	{ "shld imm", MAP_0F, 0, 0xa4, 0, RM | SLASH_R, WIDE, IMM_8, PLAIN },
	{ "shld cl", MAP_0F, 0, 0xa5, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "shrd imm", MAP_0F, 0, 0xac, 0, RM | SLASH_R, WIDE, IMM_8, PLAIN },
	{ "shrd cl", MAP_0F, 0, 0xad, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	BITS("bt", 0xa3, 4, 0), BITS("bts", 0xab, 5, LOCK), BITS("btr", 0xb3, 6, LOCK),
	BITS("btc", 0xbb, 7, LOCK),
	{ "bsf", MAP_0F, 0, 0xbc, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "bsr", MAP_0F, 0, 0xbd, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "popcnt", MAP_0F, 0xf3, 0xb8, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "tzcnt", MAP_0F, 0xf3, 0xbc, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "lzcnt", MAP_0F, 0xf3, 0xbd, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "crc32 8", MAP_0F38, 0xf2, 0xf0, 0, RM | SLASH_R, S32_64, 0, PLAIN },
	{ "crc32", MAP_0F38, 0xf2, 0xf1, 0, RM | SLASH_R, WIDE, 0, PLAIN },
	{ "adcx", MAP_0F38, 0x66, 0xf6, 0, RM | SLASH_R, S32_64, 0, PLAIN },
	{ "adox", MAP_0F38, 0xf3, 0xf6, 0, RM | SLASH_R, S32_64, 0, PLAIN },
	{ "andn", MAP_0F38, 0, 0xf2, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "blsr", MAP_0F38, 0, 0xf3, 1, RM | VEX | VVVV, S32_64, 0, PLAIN },
	{ "blsmsk", MAP_0F38, 0, 0xf3, 2, RM | VEX | VVVV, S32_64, 0, PLAIN },
	{ "blsi", MAP_0F38, 0, 0xf3, 3, RM | VEX | VVVV, S32_64, 0, PLAIN },
	{ "bextr", MAP_0F38, 0, 0xf7, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "bzhi", MAP_0F38, 0, 0xf5, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "mulx", MAP_0F38, 0xf2, 0xf6, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "pdep", MAP_0F38, 0xf2, 0xf5, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "pext", MAP_0F38, 0xf3, 0xf5, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "rorx", MAP_0F3A, 0xf2, 0xf0, 0, RM | SLASH_R | VEX, S32_64, IMM_8, PLAIN },
	{ "sarx", MAP_0F38, 0xf3, 0xf7, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "shlx", MAP_0F38, 0x66, 0xf7, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },
	{ "shrx", MAP_0F38, 0xf2, 0xf7, 0, RM | SLASH_R | VEX | VVVV, S32_64, 0, PLAIN },

	STRINGS("movs", 0xa4), STRINGS("cmps", 0xa6), STRINGS("stos", 0xaa), STRINGS("lods", 0xac),
	STRINGS("scas", 0xae),

	{ "push r", MAP_1, 0, 0x50, 0, OPCODE_REG, S16 | S64, 0, STACK },
	{ "push rm", MAP_1, 0, 0xff, 6, RM, S16 | S64, 0, STACK },
	{ "push imm", MAP_1, 0, 0x68, 0, 0, S16 | S64, IMM_Z, STACK },
	{ "push imm8", MAP_1, 0, 0x6a, 0, 0, S16 | S64, IMM_8, STACK },
	{ "push fs", MAP_0F, 0, 0xa0, 0, 0, S16 | S64, 0, STACK },
	{ "pop r", MAP_1, 0, 0x58, 0, OPCODE_REG, S16 | S64, 0, STACK },
	{ "pop rm", MAP_1, 0, 0x8f, 0, RM, S16 | S64, 0, STACK },
	{ "pushf", MAP_1, 0, 0x9c, 0, 0, S16 | S64, 0, STACK },
	{ "popf", MAP_1, 0, 0x9d, 0, 0, S16 | S64, 0, FLAGS_IMAGE },
	{ "enter", MAP_1, 0, 0xc8, 0, 0, S16 | S64, IMM_16_8, FRAME },
	{ "leave", MAP_1, 0, 0xc9, 0, 0, S16 | S64, 0, FRAME },
	{ "jcc rel8", MAP_1, 0, 0x70, 0, CONDITION, S64, IMM_8, RELATIVE },
	{ "jcc rel32", MAP_0F, 0, 0x80, 0, CONDITION, S64, IMM_Z, RELATIVE },
	{ "jmp rel8", MAP_1, 0, 0xeb, 0, 0, S64, IMM_8, RELATIVE },
	{ "jmp rel32", MAP_1, 0, 0xe9, 0, 0, S64, IMM_Z, RELATIVE },
	{ "call rel32", MAP_1, 0, 0xe8, 0, 0, S64, IMM_Z, RELATIVE },
	{ "loopne", MAP_1, 0, 0xe0, 0, 0, S64, IMM_8, RELATIVE },
	{ "loope", MAP_1, 0, 0xe1, 0, 0, S64, IMM_8, RELATIVE },
	{ "loop", MAP_1, 0, 0xe2, 0, 0, S64, IMM_8, RELATIVE },
	{ "jrcxz", MAP_1, 0, 0xe3, 0, 0, S64, IMM_8, RELATIVE },
	{ "jmp rm", MAP_1, 0, 0xff, 4, RM, S64, 0, TARGET },
	{ "call rm", MAP_1, 0, 0xff, 2, RM, S64, 0, TARGET },
	{ "ret", MAP_1, 0, 0xc3, 0, 0, S64, 0, RETURN },
	{ "ret imm", MAP_1, 0, 0xc2, 0, 0, S64, IMM_16, RETURN },
};

const unsigned integer_form_count = sizeof integer_forms / sizeof *integer_forms;
