/* Cmdlets that show, write and convert. */
#include "shell/objects.h"

#include "base/bits.h"

#define INPUT { "InputObject", NULL, ANY, ALL_SETS, .pipeline = BY_VALUE, \
		.help = "The objects, when they do not come through the pipeline." }
#define POSITIONAL_INPUT { "InputObject", NULL, ANY, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE, \
		.help = "The objects, when they do not come through the pipeline." }

static const struct parameter write_output[] = {
	{ "InputObject", NULL, LIST | ANY, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE, .rest = true,
	  .help = "The values to give out." },
	{ "NoEnumerate", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; lists are given out one by one." },
};

static const struct parameter write_host[] = {
	{ "Object", NULL, LIST | ANY, ALL_SETS, .position = AT(0), .rest = true, .help = "What to write." },
	{ "NoNewline", NULL, SWITCH, ALL_SETS, .help = "Without an end of line." },
	{ "Separator", NULL, STRING, ALL_SETS, .help = "What to put between the values." },
	{ "ForegroundColor", NULL, STRING, ALL_SETS, .fate = HARMLESS, .help = "Accepted; text has no colours." },
	{ "BackgroundColor", NULL, STRING, ALL_SETS, .fate = HARMLESS, .help = "Accepted; text has no colours." },
};

static const struct parameter write_error[] = {
	{ "Message", NULL, STRING, ALL_SETS, .position = AT(0), .mandatory = true, .help = "The sentence." },
};

static const struct parameter out_null[] = { INPUT };

static const struct parameter out_host[] = {
	{ "Paging", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; a Unix shell's `| less` pages." },
	INPUT,
};

static const struct parameter out_file[] = {
	{ "FilePath", "Path", STRING, ALL_SETS, .position = AT(0), .mandatory = true, .help = "The file." },
	{ "Append", NULL, SWITCH, ALL_SETS, .help = "Add to what is in it." },
	{ "NoClobber", "NoOverwrite", SWITCH, ALL_SETS, .help = "Fail when it is there already." },
	{ "Width", NULL, INT32, ALL_SETS, .minimum = 2, .maximum = 4096, .help = "Columns of a line." },
	{ "Encoding", NULL, STRING, ALL_SETS, .position = AT(1), .fate = HARMLESS, .help = "Accepted; it is UTF-8." },
	{ "Force", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted." },
	INPUT,
};

static const struct parameter out_string[] = {
	{ "Stream", NULL, SWITCH, ALL_SETS, .help = "Each line by itself." },
	{ "Width", NULL, INT32, ALL_SETS, .fate = HARMLESS, .help = "Accepted; nothing is cut." },
	INPUT,
};

static const struct parameter format_table[] = {
	{ "Property", NULL, LIST | ANY, ALL_SETS, .position = AT(0),
	  .help = "Columns; @{ Label = 'x'; Expression = { ... } } makes one." },
	{ "AutoSize", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; columns fit what they hold." },
	{ "Wrap", NULL, SWITCH, ALL_SETS, .help = "Cut nothing to the terminal's width." },
	{ "GroupBy", NULL, ANY, ALL_SETS, .fate = REFUSED, .help = "Sort-Object puts together what belongs together." },
	{ "HideTableHeaders", NULL, SWITCH, ALL_SETS, .help = "Only the rows." },
	{ "Force", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted." },
	INPUT,
};

static const struct parameter format_list[] = {
	{ "Property", NULL, LIST | ANY, ALL_SETS, .position = AT(0), .help = "Properties; * is all of them." },
	{ "GroupBy", NULL, ANY, ALL_SETS, .fate = REFUSED, .help = "Sort-Object puts together what belongs together." },
	{ "Force", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted." },
	INPUT,
};

static const struct parameter convert_to_json[] = {
	{ "Depth", NULL, INT32, ALL_SETS, .minimum = 0, .maximum = 100, .help = "How deep to go into objects." },
	{ "Compress", NULL, SWITCH, ALL_SETS, .help = "On one line." },
	{ "AsArray", NULL, SWITCH, ALL_SETS, .help = "A list even of one." },
	POSITIONAL_INPUT,
};

static const struct parameter convert_from_json[] = { POSITIONAL_INPUT };

#define UTILITY "Microsoft.PowerShell.Utility"
#define CORE "Microsoft.PowerShell.Core"

static const struct cmdlet cmdlets[] = {
	{ "Format-Table", UTILITY, "ft", "Show objects as a table.", NULL,
	  format_table, ARRAY_SIZE(format_table), 0, NULL,
	  "Get-VM * | Format-Table Name, Version\tsome columns\n"
	  "Get-VM | ft Name, @{ Label = 'GB'; Expression = { $_.MemoryStartup / 1GB } }\ta calculated column\n",
	  output_table },
	{ "Format-List", UTILITY, "fl", "Show objects as a list of properties.", NULL,
	  format_list, ARRAY_SIZE(format_list), 0, NULL,
	  "Get-VM | Format-List\tthe usual properties\n"
	  "Get-VM | Format-List *\tall properties\n", output_list },
	{ "ConvertTo-Json", UTILITY, NULL, "Write objects as JSON.", NULL,
	  convert_to_json, ARRAY_SIZE(convert_to_json), 0, NULL,
	  "Get-VM | ConvertTo-Json\tfor programs\n", output_to_json },
	{ "ConvertFrom-Json", UTILITY, NULL, "Read objects from JSON.", NULL,
	  convert_from_json, ARRAY_SIZE(convert_from_json), 0, NULL,
	  "'{\"a\": 1}' | ConvertFrom-Json\tone object\n", output_from_json },
	{ "Out-File", UTILITY, NULL, "Write what would be shown into a file.", NULL,
	  out_file, ARRAY_SIZE(out_file), 0, NULL, "Get-VM | Out-File machines.txt\ta table in a file\n",
	  output_file },
	{ "Out-String", UTILITY, NULL, "Give out what would be shown as text.", NULL,
	  out_string, ARRAY_SIZE(out_string), 0, NULL, "Get-VM | Out-String\ta table as text\n", output_string },
	{ "Out-Host", CORE, "oh,Out-Default", "Show objects at once.", NULL, out_host, ARRAY_SIZE(out_host), 0, NULL,
	  "Get-VM | Out-Host\tas at the end of a line\n", output_shown },
	{ "Out-Null", CORE, NULL, "Show nothing.", NULL, out_null, ARRAY_SIZE(out_null), 0, NULL,
	  "New-VM lab | Out-Null\twithout the table\n", output_null },
	{ "Write-Output", UTILITY, "echo,write", "Give out values.", NULL,
	  write_output, ARRAY_SIZE(write_output), 0, NULL, "Write-Output 1, 2, 3\tthree numbers\n", output_write },
	{ "Write-Host", UTILITY, NULL, "Write a line to the terminal.", NULL,
	  write_host, ARRAY_SIZE(write_host), 0, NULL, "Write-Host \"Memory: $(1GB)\"\ta line\n", output_host },
	{ "Write-Error", UTILITY, NULL, "Report an error of your own.", NULL,
	  write_error, ARRAY_SIZE(write_error), 0, NULL, "Write-Error 'No machine is left.'\tan error\n", output_error },
};

const struct cmdlet_table cmdlets_output = { cmdlets, ARRAY_SIZE(cmdlets) };
