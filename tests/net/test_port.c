#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/port.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct fixture {
	struct port *a, *b;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	int fd[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd))
		return -1;
	f->a = port_create(fd[0]);
	f->b = port_create(fd[1]);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	port_destroy(f->a);
	port_destroy(f->b);
	free(f);
	return 0;
}

static void test_batches(void **state)
{
	struct fixture *f = *state;
	const struct frame *got;
	uint8_t frame[FRAME_MAX];
	assert_int_equal(port_receive(f->b, &got), 0);
	for (unsigned i = 0; i < 40; i++) {
		memset(frame, (int)i, sizeof frame);
		assert_true(port_send(f->a, frame, FRAME_HEADER + i));
	}
	assert_int_equal(port_room(f->a), PORT_QUEUE - 40);
	assert_int_equal(port_flush(f->a), 0);
	assert_int_equal(port_room(f->a), PORT_QUEUE);
	assert_int_equal(port_receive(f->b, &got), PORT_BATCH);
	assert_int_equal(got[31].length, FRAME_HEADER + 31);
	assert_int_equal(got[31].bytes[20], 31);
	assert_int_equal(port_receive(f->b, &got), 40 - PORT_BATCH);
	assert_int_equal(got[7].length, FRAME_HEADER + 39);
	assert_int_equal(port_receive(f->b, &got), 0);
}

static void test_sizes(void **state)
{
	struct fixture *f = *state;
	const struct frame *got;
	static uint8_t frame[FRAME_MAX + 10];
	assert_false(port_send(f->a, frame, 0));
	assert_false(port_send(f->a, frame, FRAME_HEADER - 1));
	assert_false(port_send(f->a, frame, FRAME_MAX + 1));
	assert_true(port_send(f->a, frame, FRAME_MAX));
	assert_int_equal(port_flush(f->a), 0);
	/* Someone who does not keep to it: the length is told, the bytes cut. */
	assert_int_equal(send(port_fd(f->a), frame, FRAME_MAX + 10, 0), FRAME_MAX + 10);
	assert_int_equal(send(port_fd(f->a), frame, 1, 0), 1);
	assert_int_equal(port_receive(f->b, &got), 3);
	assert_int_equal(got[0].length, FRAME_MAX);
	assert_int_equal(got[1].length, FRAME_MAX + 10);
	assert_int_equal(got[2].length, 1);
}

static void test_back_pressure(void **state)
{
	struct fixture *f = *state;
	const struct frame *got;
	uint8_t frame[1500] = { 0 };
	unsigned sent = 0, came = 0;
	int n;
	for (;;) {
		bool queued = port_send(f->a, frame, sizeof frame);
		sent += queued;
		if (port_flush(f->a) == 1 && !queued)
			break;
		assert_true(sent < 1000000);
	}
	assert_int_equal(port_room(f->a), 0);
	/* Nothing is lost: what was taken comes, and then there is room. */
	do {
		n = port_receive(f->b, &got);
		came += n > 0 ? (unsigned)n : 0;
		assert_true(port_flush(f->a) >= 0);
	} while (n > 0);
	assert_int_equal(came, sent);
	assert_int_equal(port_room(f->a), PORT_QUEUE);
	assert_true(sent > PORT_QUEUE);
}

/* Of the longest frames fewer wait. */
static void test_queue_is_bounded_in_bytes(void **state)
{
	struct fixture *f = *state;
	static uint8_t frame[FRAME_MAX];
	unsigned queued = 0;
	while (port_send(f->a, frame, sizeof frame))
		assert_true(++queued * sizeof frame <= PORT_QUEUE_BYTES);
	assert_int_equal(port_room(f->a), 0);
	assert_true(queued < PORT_QUEUE);
}

static void test_gone(void **state)
{
	struct fixture *f = *state;
	const struct frame *got;
	uint8_t frame[60] = { 0 };
	assert_true(port_send(f->b, frame, sizeof frame));
	assert_int_equal(port_flush(f->b), 0);
	shutdown(port_fd(f->b), SHUT_RDWR);
	got = NULL;
	assert_int_equal(port_receive(f->a, &got), 1);	/* the last words before the end */
	assert_non_null(got);
	assert_int_equal(got[0].length, sizeof frame);
	assert_int_equal(port_receive(f->a, &got), -1);
	assert_true(port_send(f->a, frame, sizeof frame));
	assert_int_equal(port_flush(f->a), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_batches), TEST(test_sizes), TEST(test_back_pressure),
		TEST(test_queue_is_bounded_in_bytes), TEST(test_gone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
