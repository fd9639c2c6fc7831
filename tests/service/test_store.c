/* The store: what is on the disk after faults and kills. */
#include "base/bits.h"
#include "service/call.h"
#include "service/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { KILLS = 25, KILL_AFTER_MAX_US = 25000, PADDING = 20000, WRITERS_OBJECTS = 3 };

static char folder[] = "/tmp/test_store.XXXXXX";
static const char id_1[] = "11111111-1111-4111-8111-111111111111";
static const char id_2[] = "22222222-2222-4222-8222-222222222222";
static const char id_3[] = "33333333-3333-4333-8333-333333333333";

static struct store *open_store(void)
{
	struct error e = { 0 };
	struct store *s = store_open(folder, &e);
	if (!s)
		print_error("%s\n", e.text);
	assert_non_null(s);
	return s;
}

static void put(struct store *s, const char *id, const char *name, int number)
{
	struct error e = { 0 };
	json_t *o = json_pack("{s:s,s:s,s:i}", "Id", id, "Name", name, "Number", number);
	assert_int_equal(store_put(s, STORE_VM, o, &e), 0);
	json_decref(o);
}

static int number(struct store *s, const char *id)
{
	json_t *o = store_find(s, STORE_VM, id);
	return o ? (int)get_integer(o, "Number") : -1;
}

static void write_file(const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof path, "%s/vm/%s", folder, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static bool is_there(const char *name)
{
	char path[512];
	snprintf(path, sizeof path, "%s/vm/%s", folder, name);
	return !access(path, F_OK);
}

static unsigned temporaries(void)
{
	char path[512];
	unsigned n = 0;
	snprintf(path, sizeof path, "%s/vm", folder);
	DIR *d = opendir(path);
	for (struct dirent *entry; (entry = readdir(d));)
		n += strstr(entry->d_name, ".new") != NULL;
	closedir(d);
	return n;
}

static int each_test(void **state)
{
	char command[600];
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	store_fault = NULL;
	return system(command);
}

static void what_is_put_is_found_again(void **state)
{
	struct store *s = open_store();
	put(s, id_1, "b", 1);
	put(s, id_2, "a", 2);
	put(s, id_1, "b", 3);
	assert_int_equal(number(s, id_1), 3);
	store_close(s);
	s = open_store();
	assert_int_equal(number(s, id_1), 3);
	assert_int_equal(number(s, id_2), 2);
	assert_int_equal(json_array_size(store_troubles(s)), 0);
	/* Sorted by name. */
	assert_string_equal(json_object_iter_key(json_object_iter(store_objects(s, STORE_VM))), id_2);
	struct error e;
	assert_int_equal(store_remove(s, STORE_VM, id_1, &e), 0);
	store_close(s);
	s = open_store();
	assert_null(store_find(s, STORE_VM, id_1));
	store_close(s);
}

static void what_does_not_parse_is_set_aside(void **state)
{
	static const struct { const char *id, *text; } bad[] = {
		{ "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa1", "{ \"Id\": " },
		{ "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa2", "" },
		{ "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa3", "[]" },
		{ "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa4", "{\"SchemaVersion\":1,\"Id\":\"other\",\"Name\":\"x\"}" },
		{ "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa5", "{\"SchemaVersion\":1,\"Id\":\"aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa5\"}" },
	};
	char name[64];
	struct store *s = open_store();
	put(s, id_1, "good", 1);
	store_close(s);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(name, sizeof name, "%s.json", bad[i].id);
		write_file(name, bad[i].text);
	}
	s = open_store();
	assert_int_equal(number(s, id_1), 1);
	assert_int_equal(json_object_size(store_objects(s, STORE_VM)), 1);
	assert_int_equal(json_array_size(store_troubles(s)), ARRAY_SIZE(bad));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		bool named = false;
		json_t *text;
		size_t t;
		json_array_foreach(store_troubles(s), t, text)
			if (strstr(json_string_value(text), bad[i].id))
				named = true;
		assert_true(named);
		snprintf(name, sizeof name, "%s.broken", bad[i].id);
		assert_true(is_there(name));
		snprintf(name, sizeof name, "%s.json", bad[i].id);
		assert_false(is_there(name));
	}
	store_close(s);
}

static void a_newer_schema_is_left_alone(void **state)
{
	store_close(open_store());
	write_file("44444444-4444-4444-8444-444444444444.json",
		   "{\"SchemaVersion\":99,\"Id\":\"44444444-4444-4444-8444-444444444444\",\"Name\":\"x\"}");
	struct store *s = open_store();
	assert_null(store_find(s, STORE_VM, "44444444-4444-4444-8444-444444444444"));
	assert_non_null(strstr(json_string_value(json_array_get(store_troubles(s), 0)), "99"));
	assert_true(is_there("44444444-4444-4444-8444-444444444444.json"));
	store_close(s);
}

static const char *failing;
static int fault(const char *step)
{
	return !strcmp(step, failing) ? ENOSPC : 0;
}

static void a_change_that_fails_changes_nothing(void **state)
{
	static const char *const steps[] = { "create", "write", "fsync", "rename" };
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		struct error e = { 0 };
		struct store *s = open_store();
		put(s, id_1, "old", 1);
		json_t *o = json_pack("{s:s,s:s,s:i}", "Id", id_1, "Name", "new", "Number", 2);
		failing = steps[i];
		store_fault = fault;
		assert_int_equal(store_put(s, STORE_VM, o, &e), -1);
		assert_non_null(strstr(e.text, steps[i]));
		assert_non_null(strstr(e.text, strerror(ENOSPC)));
		store_fault = NULL;
		json_decref(o);
		assert_int_equal(number(s, id_1), 1);
		store_close(s);
		s = open_store();
		assert_int_equal(number(s, id_1), 1);
		assert_int_equal(json_array_size(store_troubles(s)), 0);
		assert_int_equal(temporaries(), 0);
		store_close(s);
	}
}

static void a_removal_that_fails_removes_nothing(void **state)
{
	struct error e = { 0 };
	struct store *s = open_store();
	put(s, id_1, "old", 1);
	failing = "unlink";
	store_fault = fault;
	assert_int_equal(store_remove(s, STORE_VM, id_1, &e), -1);
	store_fault = NULL;
	assert_int_equal(number(s, id_1), 1);
	store_close(s);
}

/* Not by our own fault points: the kernel refuses the bytes. */
static void a_file_that_may_not_grow(void **state)
{
	struct rlimit old, small;
	struct error e = { 0 };
	struct store *s = open_store();
	put(s, id_1, "old", 1);
	json_t *o = json_pack("{s:s,s:s,s:i,s:o}", "Id", id_1, "Name", "new", "Number", 2, "Padding",
			      json_array());
	for (unsigned i = 0; i < PADDING / 10; i++)
		json_array_append_new(json_object_get(o, "Padding"), json_string("padding"));
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small = (struct rlimit){ 4096, old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &small);
	int result = store_put(s, STORE_VM, o, &e);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(result, -1);
	assert_non_null(strstr(e.text, "write"));
	json_decref(o);
	store_close(s);
	s = open_store();
	assert_int_equal(number(s, id_1), 1);
	assert_int_equal(temporaries(), 0);
	store_close(s);
}

/* In a process of its own, until it is killed: one number into three objects,
 * one after the other; progress goes to the pipe after each put. */
_Noreturn static void write_for_ever(int progress)
{
	struct error e;
	struct store *s = store_open(folder, &e);
	char padding[PADDING + 1];
	memset(padding, 'x', PADDING);
	padding[PADDING] = '\0';
	if (!s)
		_exit(3);
	for (int n = number(s, id_3) + 1;; n++) {
		const char *const ids[WRITERS_OBJECTS] = { id_1, id_2, id_3 };
		for (unsigned i = 0; i < WRITERS_OBJECTS; i++) {
			json_t *o = json_pack("{s:s,s:s,s:i,s:s}", "Id", ids[i], "Name", "x", "Number", n,
					      "Padding", padding);
			if (store_put(s, STORE_VM, o, &e))
				_exit(1);
			json_decref(o);
		}
		if (write(progress, &n, sizeof n) != sizeof n)
			_exit(2);
	}
}

static void killed_at_any_moment(void **state)
{
	int last = -1;
	unsigned moved = 0;
	srand(1);
	store_close(open_store());
	for (unsigned k = 0; k < KILLS; k++) {
		int progress[2], status, n;
		assert_int_equal(pipe(progress), 0);
		pid_t child = fork();
		if (!child)
			write_for_ever(progress[1]);
		close(progress[1]);
		/* At least one round, then any moment of a later one. */
		assert_int_equal(read(progress[0], &last, sizeof last), sizeof last);
		struct timespec pause = { 0, (long)(rand() % KILL_AFTER_MAX_US) * 1000 };
		nanosleep(&pause, NULL);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		while (read(progress[0], &n, sizeof n) == sizeof n)
			last = n;
		close(progress[0]);
		struct store *s = open_store();
		assert_int_equal(json_array_size(store_troubles(s)), 0);
		assert_int_equal(json_object_size(store_objects(s, STORE_VM)), WRITERS_OBJECTS);
		/* What was reported as done is there, and no more than one
		 * round beyond it. */
		assert_in_range(number(s, id_1), last, last + 1);
		assert_in_range(number(s, id_2), last, last + 1);
		assert_in_range(number(s, id_3), last, last + 1);
		assert_true(number(s, id_1) >= number(s, id_2) && number(s, id_2) >= number(s, id_3));
		moved += number(s, id_1) != number(s, id_3);
		assert_int_equal(temporaries(), 0);
		store_close(s);
	}
	print_message("%u of %d kills came in the middle of a round\n", moved, KILLS);
}

static void ids(void **state)
{
	char id[STORE_ID_SIZE], other[STORE_ID_SIZE];
	store_new_id(id);
	store_new_id(other);
	assert_true(store_id_valid(id));
	assert_string_not_equal(id, other);
	assert_int_equal(id[14], '4');
	assert_false(store_id_valid(""));
	assert_false(store_id_valid("../../../../../../../../../etc/passwd"));
	assert_false(store_id_valid("11111111-1111-4111-8111-1111111111111"));
	assert_false(store_id_valid("1111111111111-4111-8111-1111111111111"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_is_put_is_found_again, each_test),
		cmocka_unit_test_setup(what_does_not_parse_is_set_aside, each_test),
		cmocka_unit_test_setup(a_newer_schema_is_left_alone, each_test),
		cmocka_unit_test_setup(a_change_that_fails_changes_nothing, each_test),
		cmocka_unit_test_setup(a_removal_that_fails_removes_nothing, each_test),
		cmocka_unit_test_setup(a_file_that_may_not_grow, each_test),
		cmocka_unit_test_setup(killed_at_any_moment, each_test),
		cmocka_unit_test(ids),
	};
	if (!mkdtemp(folder))
		return 1;
	int result = cmocka_run_group_tests(tests, NULL, NULL);
	each_test(NULL);
	return result;
}
