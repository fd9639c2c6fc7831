/* The MC146818 real-time clock with its CMOS memory. Board lock held in every
 * call. */
#ifndef NESTOR_BOARD_MC146818_H
#define NESTOR_BOARD_MC146818_H

#include "base/clock.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

enum { MC146818_PORT = 0x70 };	/* index at 70h, data at 71h */

/* CMOS bytes that ACPI tables and firmware know. */
enum mc146818_cmos {
	CMOS_SECONDS = 0x00,
	CMOS_SECONDS_ALARM = 0x01,
	CMOS_MINUTES = 0x02,
	CMOS_MINUTES_ALARM = 0x03,
	CMOS_HOURS = 0x04,
	CMOS_HOURS_ALARM = 0x05,
	CMOS_DAY_OF_WEEK = 0x06,
	CMOS_DAY_OF_MONTH = 0x07,
	CMOS_MONTH = 0x08,
	CMOS_YEAR = 0x09,
	CMOS_REGISTER_A = 0x0a,
	CMOS_REGISTER_B = 0x0b,
	CMOS_REGISTER_C = 0x0c,
	CMOS_REGISTER_D = 0x0d,
	CMOS_EQUIPMENT = 0x14,
	CMOS_BASE_MEMORY = 0x15,	/* KiB, two bytes */
	CMOS_EXTENDED_MEMORY = 0x17,	/* KiB above 1 MiB, two bytes */
	CMOS_CHECKSUM = 0x2e,		/* of 10h-2Dh, high byte first */
	CMOS_EXTENDED_MEMORY_POST = 0x30,	/* the same again */
	CMOS_CENTURY = 0x32,
	CMOS_MEMORY_ABOVE_16M = 0x34,	/* 64 KiB units, two bytes */
	CMOS_MEMORY_ABOVE_4G = 0x5b,	/* 64 KiB units, three bytes */
	CMOS_SIZE = 0x80,
};

struct mc146818;	/* begins with a struct device */

/* low_memory, high_memory: bytes of RAM below and above 4 GiB, for the memory
 * size bytes. epoch: the time at the VM clock's zero, in seconds since 1970;
 * -1 stands for the host's time at this moment. NULL with *e filled when the
 * ports are taken. */
struct mc146818 *mc146818_create(struct bus *bus, struct clock *clock, struct irq_line irq8,
				 uint64_t low_memory, uint64_t high_memory, int64_t epoch,
				 struct error *e);
/* Free it; the bus must not be used afterwards. */
void mc146818_destroy(struct mc146818 *rtc);

#endif
