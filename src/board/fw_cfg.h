/* The firmware configuration device of QEMU's machines (QEMU's docs/specs/
 * fw_cfg): items that firmware and kernels read by number, a directory of named
 * ones, and a DMA interface. Board lock held in every call. */
#ifndef NESTOR_BOARD_FW_CFG_H
#define NESTOR_BOARD_FW_CFG_H

#include "bus/bus.h"
#include "bus/device.h"
#include "memory/memory.h"

enum { FW_CFG_PORT = 0x510, FW_CFG_PORTS = 12, FW_CFG_NAME_MAX = 55, FW_CFG_FILES_MAX = 64 };

/* Item numbers with a fixed meaning. */
enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_RAM_SIZE = 0x03,
	FW_CFG_NB_CPUS = 0x05, FW_CFG_MAX_CPUS = 0x0f, FW_CFG_FILE_DIR = 0x19,
	FW_CFG_FILE_FIRST = 0x20,
};

struct fw_cfg;	/* begins with a struct device */

/* With signature, ID, RAM size and the file "etc/e820". NULL with *e filled
 * when the ports are taken. */
struct fw_cfg *fw_cfg_create(struct bus *bus, struct memory *memory, struct error *e);
void fw_cfg_destroy(struct fw_cfg *f);

/* The bytes are copied. Files are listed in the order of their names, so they
 * are all added before the guest runs. -1 when there are too many, or the name
 * is taken or too long. */
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, uint32_t size,
		    struct error *e);
void fw_cfg_add_u16(struct fw_cfg *f, uint16_t key, uint16_t value);
void fw_cfg_add_u32(struct fw_cfg *f, uint16_t key, uint32_t value);
void fw_cfg_add_u64(struct fw_cfg *f, uint16_t key, uint64_t value);

#endif
