/* Who gets how much memory. */
#include "base/bits.h"
#include "service/balance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MB ((int64_t)MIB)
enum { ROUNDS = 200 };

static struct balance_vm vm(int64_t assigned, int64_t demand)
{
	return (struct balance_vm){
		.minimum = 128 * MB, .startup = 512 * MB, .maximum = 2048 * MB, .most = 2048 * MB,
		.buffer = 20, .priority = 50,
		.assigned = assigned * MB, .wanted = assigned * MB, .demand = demand * MB, .measured = true,
	};
}

/* Rounds with guests that follow at once, until nothing changes. */
static void settle(struct balance_vm *v, unsigned n, int64_t host)
{
	for (unsigned r = 0; r < ROUNDS; r++) {
		int64_t left = host;
		for (unsigned i = 0; i < n; i++)
			left -= v[i].assigned;
		balance_share(v, n, left);
		for (unsigned i = 0; i < n; i++)
			v[i].assigned = v[i].wanted = v[i].target;
	}
}

static void follows_demand_with_its_buffer(void **state)
{
	struct balance_vm v = vm(512, 1000);
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 1200 * MB);
	v = vm(512, 5);
	settle(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 128 * MB);	/* its minimum */
	v = vm(512, 5000);
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 2048 * MB);	/* its maximum */
	v.buffer = 2000;
	v.demand = 20 * MB;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target % (2 * MB), 0);
}

static void grows_at_once_and_shrinks_slowly(void **state)
{
	struct balance_vm v = vm(2048, 100);
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 1792 * MB);
	v = vm(200, 1000);
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 1200 * MB);
}

/* A demand that rises is met where it will be by then. */
static void a_rise_is_expected_to_go_on(void **state)
{
	struct balance_vm v = vm(512, 500);
	v.rise = 100 * MB;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 720 * MB);
	v.rise = 100000 * MB;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 2048 * MB);
}

/* No driver for more than it was started with. */
static void a_guest_that_cannot_grow_stays_there(void **state)
{
	struct balance_vm v = vm(512, 700);
	v.most = 512 * MB;
	settle(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 512 * MB);
	assert_string_equal(balance_status(&v), "Warning");
	v.demand = 450 * MB;
	assert_string_equal(balance_status(&v), "Low");
	v.demand = 10 * MB;
	settle(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 128 * MB);
}

/* The same without Dynamic Memory: it was given more, and has started again
 * without the driver. */
static void a_static_one_that_cannot_grow_is_not_asked(void **state)
{
	struct balance_vm v = vm(512, 300);
	v.startup = v.minimum = v.maximum = 1024 * MB;
	v.most = 512 * MB;
	v.wanted = 1024 * MB;
	v.stuck = true;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 512 * MB);
	v.wanted = 512 * MB;
	v.stuck = false;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 512 * MB);
	v.most = 4096 * MB;		/* it has one now */
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 1024 * MB);
}

/* One that was promised more and does not take it: the others may have it. It
 * is asked again afterwards. */
static void what_is_not_taken_goes_to_the_others(void **state)
{
	struct balance_vm v[2] = { vm(400, 1000), vm(400, 1000) };
	v[0].priority = 80;
	v[0].wanted = 1200 * MB;
	v[0].stuck = true;
	balance_share(v, 2, 0);
	assert_int_equal(v[0].target, 400 * MB);
	assert_int_equal(v[1].target, 1200 * MB);
	v[0].wanted = 400 * MB;
	v[0].stuck = false;
	v[1].wanted = v[1].assigned = 1200 * MB;
	balance_share(v, 2, 300 * MB);
	assert_int_equal(v[0].target, 700 * MB);
}

/* A guest whose demand is invented gets its maximum and no more, and not what a
 * higher one uses. */
static void a_liar_ends_at_its_maximum(void **state)
{
	struct balance_vm v[2] = { vm(512, 1000000), vm(1200, 1000) };
	v[1].priority = 80;
	settle(v, 2, 2712 * MB);
	assert_int_equal(v[0].target, 1512 * MB);
	assert_int_equal(v[1].target, 1200 * MB);
	settle(v, 2, 100000 * MB);
	assert_int_equal(v[0].target, 2048 * MB);
	v[0].demand = INT64_MAX / 4096;
	v[0].rise = INT64_MAX / 4096;
	settle(v, 2, 100000 * MB);
	assert_int_equal(v[0].target, 2048 * MB);
}

/* Without Dynamic Memory there is one amount; balance_tick makes it all three. */
static void a_static_one_has_its_startup(void **state)
{
	static const int64_t demands[] = { 0, 500, 5000 };
	for (unsigned i = 0; i < ARRAY_SIZE(demands); i++) {
		struct balance_vm v[2] = { vm(512, demands[i]), vm(512, 5000) };
		v[0].minimum = v[0].maximum = v[0].startup;
		v[1].priority = 80;
		balance_share(v, 2, -300 * MB);
		assert_int_equal(v[0].target, 512 * MB);
		/* A resize under way goes on; a hypervisor ends it where it is. */
		v[0].assigned = 700 * MB;
		settle(v, 2, 10000 * MB);
		assert_int_equal(v[0].target, 512 * MB);
		v[0].assigned = 700 * MB;
		v[0].hypervisor = true;
		balance_share(v, 2, 1000 * MB);
		assert_int_equal(v[0].target, 700 * MB);
		v[0].hypervisor = false;
		settle(v, 2, 10000 * MB);
		assert_int_equal(v[0].target, 512 * MB);
	}
}

static void a_small_change_is_none(void **state)
{
	struct balance_vm v = vm(1200, 1010);
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 1200 * MB);
}

static void unmeasured_stays(void **state)
{
	struct balance_vm v = vm(512, 5000);
	v.measured = false;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 512 * MB);
	assert_string_equal(balance_status(&v), "OK");
}

static void a_hypervisor_freezes_it(void **state)
{
	static const int64_t demands[] = { 10, 600, 5000 };
	for (unsigned i = 0; i < ARRAY_SIZE(demands); i++) {
		struct balance_vm v = vm(800, demands[i]);
		v.hypervisor = true;
		settle(&v, 1, 100 * MB);	/* however short the host is */
		assert_int_equal(v.target, 800 * MB);
		/* When it ends, demand counts again. */
		v.hypervisor = false;
		settle(&v, 1, 10000 * MB);
		assert_int_not_equal(v.target, 800 * MB);
	}
}

static void below_startup_it_returns_there_first(void **state)
{
	struct balance_vm v = vm(200, 10);
	v.hypervisor = true;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 512 * MB);
	settle(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 512 * MB);
	/* A balloon that was still filling stops. */
	v = vm(900, 10);
	v.wanted = 600 * MB;
	v.hypervisor = true;
	balance_share(&v, 1, 10000 * MB);
	assert_int_equal(v.target, 900 * MB);
}

static void the_higher_priority_comes_first(void **state)
{
	struct balance_vm v[2] = { vm(400, 1000), vm(400, 1000) };
	v[1].priority = 80;
	balance_share(v, 2, 500 * MB);
	assert_int_equal(v[1].target, 900 * MB);
	assert_int_equal(v[0].target, 400 * MB);
}

static void lower_ones_lend_their_buffers(void **state)
{
	struct balance_vm v[2] = { vm(1200, 1000), vm(512, 1000) };
	v[1].priority = 80;
	settle(v, 2, 1712 * MB);
	/* Nothing is free, and the low one keeps what it uses. */
	assert_int_equal(v[0].target, 1000 * MB);
	assert_int_equal(v[1].target, 712 * MB);
	assert_string_equal(balance_status(&v[0]), "Low");
	assert_string_equal(balance_status(&v[1]), "Warning");
}

/* One that wants more itself lends all the same. */
static void a_lender_that_is_short_itself_lends(void **state)
{
	struct balance_vm v[2] = { vm(900, 780), vm(670, 580) };
	v[1].priority = 80;
	settle(v, 2, 1570 * MB);
	assert_int_equal(v[1].target, 696 * MB);
	assert_int_equal(v[0].target, 1570 * MB - 696 * MB);
}

static void a_host_that_is_short_takes_buffers_back(void **state)
{
	struct balance_vm v[2] = { vm(1200, 1000), vm(1200, 1000) };
	v[1].priority = 80;
	balance_share(v, 2, -150 * MB);
	assert_int_equal(v[0].target, 1050 * MB);
	assert_int_equal(v[1].target, 1200 * MB);
	balance_share(v, 2, -1000 * MB);
	assert_int_equal(v[0].target, 1000 * MB);
	assert_int_equal(v[1].target, 1000 * MB);
}

static void whatever_the_numbers(void **state)
{
	enum { VMS = 5, TRIES = 20000 };
	srand(3);
	for (unsigned t = 0; t < TRIES; t++) {
		struct balance_vm v[VMS];
		for (unsigned i = 0; i < VMS; i++) {
			v[i] = vm(64 + rand() % 4000, rand() % 5000);
			v[i].buffer = rand() % 2000;
			v[i].priority = rand() % 101;
			v[i].measured = rand() % 4;
			v[i].hypervisor = !(rand() % 4);
			v[i].assigned = (64 + rand() % 4000) * MB;
		}
		balance_share(v, VMS, (rand() % 8000 - 2000) * MB);
		for (unsigned i = 0; i < VMS; i++) {
			if (v[i].hypervisor)
				assert_true(v[i].target >= v[i].wanted && v[i].target >= v[i].startup);
			else if (!v[i].measured)
				assert_int_equal(v[i].target, v[i].wanted);
			else if (v[i].target != v[i].wanted)
				assert_true((v[i].target >= v[i].minimum || v[i].target > v[i].wanted) &&
					    (v[i].target <= v[i].maximum || v[i].target < v[i].wanted));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(follows_demand_with_its_buffer),
		cmocka_unit_test(grows_at_once_and_shrinks_slowly),
		cmocka_unit_test(a_rise_is_expected_to_go_on),
		cmocka_unit_test(a_guest_that_cannot_grow_stays_there),
		cmocka_unit_test(a_static_one_that_cannot_grow_is_not_asked),
		cmocka_unit_test(what_is_not_taken_goes_to_the_others),
		cmocka_unit_test(a_liar_ends_at_its_maximum),
		cmocka_unit_test(a_static_one_has_its_startup),
		cmocka_unit_test(a_small_change_is_none),
		cmocka_unit_test(unmeasured_stays),
		cmocka_unit_test(a_hypervisor_freezes_it),
		cmocka_unit_test(below_startup_it_returns_there_first),
		cmocka_unit_test(the_higher_priority_comes_first),
		cmocka_unit_test(lower_ones_lend_their_buffers),
		cmocka_unit_test(a_lender_that_is_short_itself_lends),
		cmocka_unit_test(a_host_that_is_short_takes_buffers_back),
		cmocka_unit_test(whatever_the_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
