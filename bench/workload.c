/* workload NAME...: small programs whose speed is compared between processors.
 * Each line printed is "@ NAME SECONDS CHECKSUM". Built statically; the same
 * binary runs on the host and in every guest. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

/* Sorting: calls through a pointer, unpredictable branches. */
static uint64_t sort(void)
{
	enum { COUNT = 200000 };
	uint32_t *v = malloc(COUNT * sizeof *v), seed = 1, sum = 0;
	for (int i = 0; i < COUNT; i++)
		v[i] = random_next(&seed);
	qsort(v, COUNT, sizeof *v, compare);
	for (int i = 0; i < COUNT; i += 1000)
		sum += v[i];
	free(v);
	return sum;
}

/* Primes: byte stores with a stride. */
static uint64_t sieve(void)
{
	enum { LIMIT = 4000000 };
	uint8_t *composite = calloc(LIMIT, 1);
	uint64_t count = 0;
	for (uint64_t n = 2; n < LIMIT; n++) {
		if (composite[n])
			continue;
		count++;
		for (uint64_t k = n * n; k < LIMIT; k += n)
			composite[k] = 1;
	}
	free(composite);
	return count;
}

/* A table-driven checksum: a load and two operations at a time. */
static uint64_t checksum(void)
{
	enum { BYTES = 16 << 20 };
	uint32_t table[256], crc = ~0u;
	for (uint32_t n = 0; n < 256; n++) {
		uint32_t c = n;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		table[n] = c;
	}
	for (uint32_t i = 0; i < BYTES; i++)
		crc = crc >> 8 ^ table[(crc ^ i * 31) & 255];
	return crc;
}

/* Doubles: SSE2 multiplications and additions. */
static uint64_t matrix(void)
{
	enum { SIZE = 128 };
	static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];
	for (int i = 0; i < SIZE; i++)
		for (int k = 0; k < SIZE; k++) {
			a[i][k] = i + k;
			b[i][k] = i - k;
		}
	for (int i = 0; i < SIZE; i++)
		for (int k = 0; k < SIZE; k++) {
			double sum = 0;
			for (int n = 0; n < SIZE; n++)
				sum += a[i][n] * b[n][k];
			c[i][k] = sum;
		}
	return (uint64_t)(int64_t)c[17][93];
}

/* Recursion: calls and returns. */
static uint64_t fibonacci(unsigned n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t calls(void)
{
	return fibonacci(30);
}

/* memcpy: the library's own, and rep movsb. */
static uint64_t copy(void)
{
	enum { BYTES = 8 << 20, ROUNDS = 8 };
	char *from = malloc(BYTES), *to = malloc(BYTES);
	memset(from, 3, BYTES);
	for (int i = 0; i < ROUNDS; i++)
		memcpy(to, from, BYTES);
	uint64_t sum = (uint64_t)to[BYTES - 1];
	free(from);
	free(to);
	return sum;
}

static uint64_t system_calls(void)
{
	enum { ROUNDS = 100000 };
	for (int i = 0; i < ROUNDS; i++)
		syscall(SYS_getppid);
	return ROUNDS;
}

static uint64_t forks(void)
{
	enum { ROUNDS = 100 };
	for (int i = 0; i < ROUNDS; i++) {
		pid_t child = fork();
		if (!child)
			_exit(0);
		waitpid(child, NULL, 0);
	}
	return ROUNDS;
}

static uint64_t page_faults(void)
{
	enum { BYTES = 32 << 20, PAGE = 4096 };
	char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(p, BYTES, MADV_NOHUGEPAGE);
	for (int i = 0; i < BYTES; i += PAGE)
		p[i] = 1;
	munmap(p, BYTES);
	return BYTES / PAGE;
}

/* Two processes and two pipes: context switches. */
static uint64_t switches(void)
{
	enum { ROUNDS = 5000 };
	int ping[2], pong[2];
	char byte = 1;
	if (pipe(ping) || pipe(pong))
		return 0;
	pid_t child = fork();
	if (!child) {
		for (int i = 0; i < ROUNDS; i++)
			if (read(ping[0], &byte, 1) != 1 || write(pong[1], &byte, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (int i = 0; i < ROUNDS; i++)
		if (write(ping[1], &byte, 1) != 1 || read(pong[0], &byte, 1) != 1)
			break;
	waitpid(child, NULL, 0);
	return ROUNDS;
}

/* CPUID: in an L2, an exit to its hypervisor each. */
static uint64_t cpuid_exits(void)
{
	enum { ROUNDS = 10000 };
	uint64_t sum = 0;
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t a = 0, b, c = 0, d;
		__asm__ volatile ("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		sum += a;
	}
	return sum;
}

static const struct {
	const char *name;
	uint64_t (*run)(void);
} programs[] = {
	{ "sort", sort }, { "sieve", sieve }, { "checksum", checksum }, { "matrix", matrix },
	{ "calls", calls }, { "copy", copy }, { "syscalls", system_calls }, { "forks", forks },
	{ "pagefaults", page_faults }, { "switches", switches }, { "cpuid", cpuid_exits },
};

int main(int argc, char **argv)
{
	for (size_t n = 0; n < sizeof programs / sizeof *programs; n++) {
		int wanted = argc < 2;
		for (int k = 1; k < argc; k++)
			wanted |= !strcmp(argv[k], programs[n].name);
		if (!wanted)
			continue;
		double start = now();
		uint64_t result = programs[n].run();
		printf("@ %s %.6f %llu\n", programs[n].name, now() - start, (unsigned long long)result);
		fflush(stdout);
	}
	return 0;
}
