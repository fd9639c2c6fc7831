/* Print who CPUID says stands below this kernel: the vendor word of leaf
 * 40000000h, or "none" when the hypervisor bit is clear. */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	unsigned a, b, c, d;
	char word[13] = "";
	__cpuid(1, a, b, c, d);
	if (!(c >> 31)) {
		puts("none");
		return 0;
	}
	__cpuid(0x40000000, a, b, c, d);
	memcpy(word, &b, 4);
	memcpy(word + 4, &c, 4);
	memcpy(word + 8, &d, 4);
	puts(word);
	return 0;
}
