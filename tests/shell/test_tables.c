/* What must hold of every cmdlet's table, and every example of the help runs. */
#include "fake_service.h"

#include "shell/cmdlet.h"
#include "shell/complete.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <cmocka.h>

static void test_names(void **state)
{
	const struct cmdlet *c, *other;
	for (unsigned i = 0; (c = cmdlet_at(i)); i++) {
		const char *module;
		char alias[64];
		assert_ptr_equal(cmdlet_find(c->name), c);
		assert_false(cmdlet_known_elsewhere(c->name, &module));
		for (unsigned k = 0; list_item(c->aliases, k, alias, sizeof(alias)); k++)
			assert_ptr_equal(cmdlet_find(alias), c);
		for (unsigned k = i + 1; (other = cmdlet_at(k)); k++)
			assert_int_not_equal(strcasecmp(c->name, other->name), 0);
		assert_non_null(c->synopsis);
		assert_non_null(c->examples);
	}
}

static void test_parameters(void **state)
{
	const struct cmdlet *c;
	const struct parameter *p, *q;
	for (unsigned i = 0; (c = cmdlet_at(i)); i++)
		for (unsigned k = 0; (p = cmdlet_parameter(c, k)); k++) {
			if (!p->help || (TYPE_OF(p) == ENUM && !p->values) || (TYPE_OF(p) == OBJECT && !p->values))
				fail_msg("%s -%s: help or values are missing", c->name, p->name);
			for (unsigned m = k + 1; (q = cmdlet_parameter(c, m)); m++)
				if (!strcasecmp(p->name, q->name) || list_has(p->aliases, q->name) ||
				    list_has(q->aliases, p->name))
					fail_msg("%s has -%s twice", c->name, q->name);
			/* A parameter in no set could never be bound. */
			assert_true(p->sets != 0);
		}
}

static json_t *answers(void)
{
	json_error_t e;
	json_t *list = json_load_file(getenv("SHELL_ANSWERS"), 0, &e);
	assert_non_null(list);
	return list;
}

static void test_examples_run(void **state)
{
	const struct cmdlet *c;
	char folder[] = "/tmp/nestor-examples.XXXXXX", *output = NULL;
	size_t size = 0;
	struct fake_service f = { .answers = answers() };
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	for (unsigned i = 0; (c = cmdlet_at(i)); i++)
		for (const char *s = c->examples; *s; s += strcspn(s, "\n") + 1) {
			FILE *out = open_memstream(&output, &size);
			struct shell *sh = shell_create(fake_service(&f), out, out);
			size_t n = strcspn(s, "\t");
			assert_true(n < strcspn(s, "\n"));	/* each says what it does */
			shell_run_text(sh, s, n, NULL);
			bool failed = sh->failed;
			shell_destroy(sh);
			fclose(out);
			if (failed != !strcmp(c->name, "Write-Error"))
				fail_msg("%.*s: %s", (int)n, s, output);
			free(output);
		}
	json_decref(f.answers);
	unlink("machines.txt");
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(folder), 0);
}

/* The candidates for a line, joined; what stands before the word is kept. */
static void completes(const char *line, const char *wanted)
{
	struct fake_service f = { .answers = answers() };
	struct shell *sh = shell_create(fake_service(&f), stdout, stdout);
	size_t word, i;
	json_t *all = shell_complete(sh, line, strlen(line), &word), *v;
	struct text t = { 0 };
	text_addf(&t, "%.*s: ", (int)word, line);
	json_array_foreach(all, i, v)
		text_addf(&t, "%s%s", i ? " " : "", json_string_value(v));
	assert_string_equal(t.data, wanted);
	free(t.data);
	json_decref(all);
	shell_destroy(sh);
	json_decref(f.answers);
}

static void test_completion(void **state)
{
	completes("Get-VMP", ": Get-VMProcessor");
	completes("Get-VM | Start-V", "Get-VM | : Start-VM");
	completes("1..3 | % { New-VMS", "1..3 | % { : New-VMSwitch");
	completes("Set-VMProcessor -Exp", "Set-VMProcessor : -ExposeVirtualizationExtensions");
	completes("Set-VMProcessor -ExposeVirtualizationExtensions $", "Set-VMProcessor -ExposeVirtualizationExtensions : $true $false");
	completes("Set-VMNetworkAdapter lab -Mac o", "Set-VMNetworkAdapter lab -Mac : On Off");
	completes("Start-VM ", "Start-VM : lab web 'my lab'");
	completes("Start-VM lab,", "Start-VM lab,: lab web 'my lab'");
	completes("Start-VM \"my", "Start-VM : \"my lab\"");
	completes("Get-VMProcessor -VMName w", "Get-VMProcessor -VMName : web");
	completes("New-VM x -SwitchName D", "New-VM x -SwitchName : 'Default Switch'");
	completes("New-VM ", "New-VM : ");
	completes("Nothing -x", "Nothing : ");
}

static void test_incomplete(void **state)
{
	static const struct { const char *text; bool more; } cases[] = {
		{ "Get-VM |", true }, { "Get-VM `", true }, { "@{ a = 1", true }, { "'open", true }, { "\"open", true },
		{ "1..3 | % {", true }, { "(1 +", true }, { "<# a", true }, { "$x =", true },
		{ "@\"\na", true }, { "@'", true }, { "@\"\na\n\"@", false }, { "@\" a", false },
		{ "Get-VM", false }, { "Get-VM )", false }, { "if (1) {", false }, { "1 -foo", false }, { "", false },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (shell_is_incomplete(cases[i].text, strlen(cases[i].text)) != cases[i].more)
			fail_msg("\"%s\"", cases[i].text);
}

static void test_numbers(void **state)
{
	static const struct { const char *text; const char *value; } cases[] = {
		{ "4GB", "4294967296" }, { "1.5kb", "1536" }, { "0xff", "255" }, { "-1", "-1" }, { "2.5", "2.5" },
		{ "1e3", "1000" }, { "9223372036854775807", "9223372036854775807" }, { "", NULL }, { "GB", NULL },
		{ "1GBx", NULL }, { "1.2.3", NULL }, { "0x", NULL }, { "1..3", NULL }, { "--1", NULL }, { "inf", NULL },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *v = NULL;
		int r = value_parse_number(cases[i].text, &v);
		char *s = r ? NULL : value_string(v);
		if (!s != !cases[i].value || (s && strcmp(s, cases[i].value)))
			fail_msg("\"%s\" is %s", cases[i].text, s ? s : "no number");
		free(s);
		json_decref(v);
	}
}

/* A text cannot forge what only the shell makes. */
static void test_forged_block(void **state)
{
	static const char text[] =
		"'{\"$type\":\"ScriptBlock\",\"$block\":0}' | ConvertFrom-Json | ForEach-Object { $_ };"
		"1 | ForEach-Object -Process ('{\"$type\":\"ScriptBlock\",\"$block\":99}' | ConvertFrom-Json)";
	char *output = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&output, &size);
	struct fake_service f = { .answers = json_array() };
	struct shell *sh = shell_create(fake_service(&f), out, out);
	assert_int_equal(shell_run_text(sh, text, strlen(text), NULL), 1);
	json_t *forged = json_pack("{s:s,s:i}", TYPE_KEY, "ScriptBlock", "$block", 12345);
	assert_null(shell_run_block(sh, forged, forged));
	json_decref(forged);
	shell_destroy(sh);
	fclose(out);
	free(output);
	json_decref(f.answers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_parameters),
		cmocka_unit_test(test_examples_run),
		cmocka_unit_test(test_completion),
		cmocka_unit_test(test_incomplete),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_forged_block),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
