/* Random bytes and changed commands through lexer and parser, and what parses
 * through the evaluator and the binder too: nothing may crash, hang or leak.
 * Deterministic; an argument is one round's number. */
#include "fake_service.h"

#include <stdlib.h>
#include <string.h>

#define ROUNDS 30000
#define MAX_TEXT 400

static uint64_t seed_state;

static unsigned next_random(unsigned n)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (unsigned)(seed_state >> 20) % n;
}

static const char *const commands[] = {
	"Set-VMProcessor -VMName <VMName> -ExposeVirtualizationExtensions $true",
	"New-NetNat –Name LocalNAT –InternalIPInterfaceAddressPrefix “192.168.100.0/24”",
	"Get-VM | ? { $_.State -eq 'Running' -and $_.Name -like \"l*$x\" } | ft Name, @{ n = 'GB'; e = { $_.X / 1GB } }",
	"$h = @{ Name = 'lab'; Size = 2GB\n List = 1, (2 + 3), $(4; 5) }; New-VM @h -Gen:2",
	"1..5 | ForEach-Object { $_ * -2 } | Sort-Object -Descending | Select-Object -First 2",
	"\"a $(Get-VM lab | % Name) ${b} `\" \"\"c\"\" $d.e\" -ceq 'it''s' ; $x[0, -1].Count",
	"Write-Output a `\n  b, c -ErrorAction Stop > $null 2>&1 <# c #> # d",
	"@(1, 2) + 3 -join ',' -notmatch '^[0-9]+\\d$' -or -not !(0x10 -gt 1.5e3)",
	"Set-VMMemory lab -Startup 1GB -Buffer 20 | Out-Null; $x += 1; exit 2",
	"'{\"a\": [1, {\"$type\": \"ScriptBlock\", \"$block\": 0}]}' | ConvertFrom-Json | ConvertTo-Json | % { $_ }",
	"$t = @\"\na $x \"b\" $(1 + 2)\n\"@\n@'\n$raw\n'@ -creplace '(a+)', '<$1>${0}$$' -split '\\s+', 3",
	"'{0,-8}|{1:N2} {{{2:X4}}}' -f 'a', 2.5, 255, -join ('a', 'b') * 3; (-split ' a b ').Count; (90061).TotalHours",
	"Get-VM nope -ErrorVariable +e -WarningAction SilentlyContinue | Out-Null; $Error[0].CategoryInfo; $e[0].Exception",
	"Get-VM | Measure-Object MemoryAssigned -Sum | fl *; $Error[0].message; $?",
};
static const char *const pieces[] = {
	"|", "{", "}", "(", ")", "$(", "@(", "@{", "$", "\"", "'", "“", "’", "–", "—", "`", "`\n", ",", ";", "..", ".",
	"-eq", "-", "-not ", "-f", "-replace", "-split ", "@\"\n", "\n\"@", "*>&1", "{0:", "[", "]", "=", "<#", "#>", "#", "<", ">", ">>", "2>", "%", "?", "\n", " ", "\xc2\xa0",
	"\xff", "\xe2\x80", "$_", "@x", "0x", "1GB", "9999999999999999999999", "1e308", "-Name:", "*", "null", "\t",
};

static size_t add(char *text, size_t n, const char *s)
{
	size_t size = strlen(s);
	if (n + size >= MAX_TEXT)
		return n;
	memcpy(text + n, s, size);
	return n + size;
}

static size_t make_text(char *text)
{
	size_t n = 0;
	unsigned kind = next_random(4);
	if (kind == 0) {
		for (unsigned i = next_random(80); i; i--)
			text[n++] = (char)next_random(256);
		return n;
	}
	if (kind == 1) {
		for (unsigned i = 1 + next_random(30); i; i--)
			n = add(text, n, pieces[next_random(sizeof(pieces) / sizeof(pieces[0]))]);
		return n;
	}
	n = add(text, n, commands[next_random(sizeof(commands) / sizeof(commands[0]))]);
	for (unsigned i = next_random(6); i; i--) {
		unsigned at = next_random((unsigned)n + 1), how = next_random(4);
		const char *s = pieces[next_random(sizeof(pieces) / sizeof(pieces[0]))];
		size_t size = strlen(s);
		if (how == 0 && at < n) {
			text[at] = (char)next_random(256);
		} else if (how == 1 && n) {
			size_t cut = next_random((unsigned)(n - at) + 1);
			memmove(text + at, text + at + cut, n - at - cut);
			n -= cut;
		} else if (n + size < MAX_TEXT) {
			memmove(text + at + size, text + at, n - at);
			memcpy(text + at, s, size);
			n += size;
		}
	}
	return n;
}

/* Commands that would write files or wait are parsed only. */
static bool is_harmless(const char *text)
{
	return !strchr(text, '>') && !strcasestr(text, "out-f") && !strcasestr(text, "sleep");
}

static int round_of(uint64_t round, json_t *answers, FILE *out)
{
	char text[MAX_TEXT + 1];
	struct fake_service f = { .answers = answers };
	struct syntax_error e = { 0 };
	seed_state = (round + 1) * 0x9e3779b97f4a7c15ull;
	size_t n = make_text(text);
	text[n] = 0;
	struct script *s = script_parse(text, n, &e);
	int failures = 0;
	if (!s && (!e.text[0] || e.start > n || e.end <= e.start)) {
		printf("fuzz_shell: round %llu: an error without text or place\n", (unsigned long long)round);
		failures = 1;
	}
	bool parsed = s;
	script_free(s);
	if (parsed && strlen(text) == n && is_harmless(text)) {
		struct shell *sh = shell_create(fake_service(&f), out, out);
		sh->width = next_random(100);
		shell_run_text(sh, text, n, NULL);
		shell_destroy(sh);
	}
	return failures;
}

int main(int argc, char **argv)
{
	json_error_t e;
	int failures = 0;
	if (argc < 2)
		return 64;
	json_t *answers = json_load_file(argv[1], 0, &e);
	FILE *out = fopen("/dev/null", "w");
	if (!answers || !out)
		return 1;
	if (argc > 2)
		failures = round_of(strtoull(argv[2], NULL, 0), answers, out);
	else
		for (uint64_t round = 0; round < ROUNDS; round++)
			failures += round_of(round, answers, out);
	fclose(out);
	json_decref(answers);
	printf("fuzz_shell: %d failures\n", failures);
	return failures != 0;
}
