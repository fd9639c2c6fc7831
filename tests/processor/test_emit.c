/* The translator's emitter against Zydis: every combination of registers and
 * address forms decodes to what was meant. */
#include "soft/translate/emit.h"

#include "base/bits.h"

#include <Zydis/Zydis.h>
#include <stdio.h>

static ZydisDecoder decoder;
static unsigned long done, wrong;

static ZydisDecodedInstruction zi;
static ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

static bool decode(const uint8_t *bytes, const struct emitter *e)
{
	done++;
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, (ZyanUSize)(e->at - bytes), &zi, op)) &&
		zi.length == e->at - bytes;
}

static void check(bool right, const char *what, const uint8_t *bytes, const struct emitter *e)
{
	if (right)
		return;
	wrong++;
	printf("not ok - %s:", what);
	for (const uint8_t *p = bytes; p < e->at; p++)
		printf(" %02x", *p);
	printf("\n");
}

static bool is_register(const ZydisDecodedOperand *o, unsigned number)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetId(o->reg.value) == (ZyanI8)number;
}

static bool is_host(ZydisRegister r, unsigned number)
{
	return number == HOST_NONE ? r == ZYDIS_REGISTER_NONE : ZydisRegisterGetId(r) == (ZyanI8)number;
}

static bool is_memory(const ZydisDecodedOperand *o, struct rm rm)
{
	return o->type == ZYDIS_OPERAND_TYPE_MEMORY && is_host(o->mem.base, rm.base) &&
		is_host(o->mem.index, rm.index) && (rm.index == HOST_NONE || o->mem.scale == 1 << rm.scale) &&
		(o->mem.disp.has_displacement ? o->mem.disp.value : 0) == rm.disp &&
		(o->mem.segment == ZYDIS_REGISTER_GS) == (rm.kind == RM_FIELD);
}

static void address_form(unsigned reg, struct rm rm)
{
	uint8_t bytes[32];
	struct emitter e = { bytes };
	emit_load(&e, reg, rm);
	check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_MOV && zi.operand_width == 64 &&
	      is_register(&op[0], reg) && is_memory(&op[1], rm), "MOV reg, mem", bytes, &e);
	e.at = bytes;
	emit_op(&e, OP_STORE_BYTE | OP_BYTE, reg, rm);
	check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_MOV && op[1].size == 8 &&
	      op[1].reg.value != ZYDIS_REGISTER_AH && !(op[1].reg.value > ZYDIS_REGISTER_AH &&
	      op[1].reg.value <= ZYDIS_REGISTER_BH) && is_memory(&op[0], rm), "MOV mem, byte reg", bytes, &e);
	e.at = bytes;
	emit_pext(&e, reg, 15 - reg, rm);
	check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_PEXT && zi.operand_width == 64 &&
	      is_register(&op[0], reg) && is_register(&op[1], 15 - reg) && is_memory(&op[2], rm), "PEXT", bytes, &e);
	e.at = bytes;
	emit_pdep(&e, reg, 15 - reg, rm);
	check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_PDEP && is_register(&op[0], reg) &&
	      is_memory(&op[2], rm), "PDEP", bytes, &e);
	e.at = bytes;
	emit_op(&e, OP_LOCK | OP_66 | OP_0F | 0xb1, reg, rm);
	check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG && zi.operand_width == 16 &&
	      zi.attributes & ZYDIS_ATTRIB_HAS_LOCK && is_memory(&op[0], rm), "LOCK CMPXCHG mem, reg16", bytes, &e);
}

static void address_forms(void)
{
	static const int32_t disp[] = { 0, 1, 127, 128, -128, -129, INT32_MAX, INT32_MIN };
	for (unsigned reg = 0; reg < 16; reg++)
		for (unsigned base = 0; base < 16; base++)
			for (unsigned index = 0; index <= 16; index++)
				for (unsigned d = 0; d < ARRAY_SIZE(disp); d++)
					if (index != HOST_RSP)
						address_form(reg, rm_at(base, index == 16 ? HOST_NONE : index,
									index == 16 ? 0 : d & 3, disp[d]));
	for (unsigned reg = 0; reg < 16; reg++)
		for (unsigned index = 0; index <= 16; index++)
			if (index != HOST_RSP) {
				address_form(reg, rm_field(0x12345678));
				address_form(reg, rm_field_at(index == 16 ? HOST_NONE : index,
							      index == 16 ? 0 : 3, 0x80));
			}
}

static void register_forms(void)
{
	uint8_t bytes[32];
	struct emitter e = { bytes };
	for (unsigned a = 0; a < 16; a++)
		for (unsigned b = 0; b < 16; b++) {
			e.at = bytes;
			emit_mov(&e, a, b);
			check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_MOV && is_register(&op[0], a) &&
			      is_register(&op[1], b), "MOV reg, reg", bytes, &e);
			e.at = bytes;
			emit_op(&e, OP_F3 | OP_0F | 0xb8 | OP_W, a, rm_reg(b));
			check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_POPCNT && is_register(&op[0], a) &&
			      is_register(&op[1], b), "POPCNT", bytes, &e);
		}
	static const uint64_t value[] = { 0, 1, INT32_MAX, UINT32_MAX, ~0ull, INT64_MIN, 0x123456789abcdef0 };
	for (unsigned a = 0; a < 16; a++)
		for (unsigned n = 0; n < ARRAY_SIZE(value); n++) {
			e.at = bytes;
			emit_mov_imm(&e, a, value[n]);
			bool right = decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_MOV && is_register(&op[0], a);
			uint64_t got = zi.operand_width == 32 ? (uint32_t)op[1].imm.value.u : op[1].imm.value.u;
			check(right && got == value[n], "MOV reg, imm", bytes, &e);
		}
}

static void jumps(void)
{
	uint8_t bytes[64] = { 0 };
	struct emitter e = { bytes };
	ZyanU64 target;
	emit_jump_to(&e, JUMP_NE, bytes + 40);
	check(decode(bytes, &e) && zi.mnemonic == ZYDIS_MNEMONIC_JNZ &&
	      ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&zi, &op[0], 0, &target)) && target == 40, "JNE", bytes, &e);
	e.at = bytes + 20;
	uint8_t *site = emit_jump_unless_rcx_zero(&e);
	emit_target(site, bytes);
	struct emitter first = { bytes + 22 };
	check(decode(bytes + 20, &first) && zi.mnemonic == ZYDIS_MNEMONIC_JRCXZ &&
	      ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&zi, &op[0], 20, &target)) &&
	      target == (ZyanU64)(e.at - bytes), "JRCXZ goes over the jump", bytes + 20, &e);
	check(decode(bytes + 22, &e) && zi.mnemonic == ZYDIS_MNEMONIC_JMP &&
	      ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&zi, &op[0], 22, &target)) && !target, "JMP back", bytes + 22, &e);
}

int main(void)
{
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	address_forms();
	register_forms();
	jumps();
	printf("%lu instructions, %lu wrong\n", done, wrong);
	return wrong != 0 || !done;
}
