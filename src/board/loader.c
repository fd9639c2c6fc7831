#include "board/loader_image.h"

static int pick(const struct load_request *r, const struct kernel_image *k,
		struct processor_state *bsp, struct error *e)
{
	if (loader_linux_recognise(k))
		return loader_linux(r, k, bsp, e);
	if (loader_multiboot_recognise(k))
		return loader_multiboot(r, k, bsp, e);
	if (elf_recognise(k))
		return loader_pvh(r, k, bsp, e);
	if (k->head[0] == 0x1f && k->head[1] == 0x8b)
		return error_set(e, STATUS_FILE,
			"The kernel %s is compressed with gzip; unpack it with gunzip first.",
			k->file.path);
	return error_set(e, STATUS_FILE,
		"The kernel %s is no kernel that can be booted: neither a Linux bzImage, nor an ELF file with a PVH note, nor multiboot 1; choose another file.",
		k->file.path);
}

int loader_load(const struct load_request *r, struct processor_state *bsp, struct error *e)
{
	struct kernel_image k = { .head = { 0 } };
	if (image_open(&k.file, "kernel", r->kernel, e))
		return -1;
	k.head_size = k.file.size < sizeof k.head ? (unsigned)k.file.size : sizeof k.head;
	int result = image_read(&k.file, 0, k.head, k.head_size, e);
	if (!result)
		result = pick(r, &k, bsp, e);
	image_close(&k.file);
	return result;
}
