/* Cmdlets about the session and the cmdlets themselves. */
#include "shell/objects.h"

#include "base/bits.h"

static const struct parameter get_help[] = {
	{ "Name", NULL, STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE, .help = "A cmdlet, or a part of its name." },
	{ "Examples", NULL, SWITCH, ALL_SETS, .help = "Examples, which run as they stand." },
	{ "Full", NULL, SWITCH, ALL_SETS, .help = "All parameters, those too that are not supported." },
	{ "Detailed", NULL, SWITCH, ALL_SETS, .help = "The same as -Full." },
	{ "Parameter", NULL, STRING, ALL_SETS, .help = "Only this parameter." },
	{ "Online", NULL, SWITCH, ALL_SETS, .fate = REFUSED, .help = "All help is in the program." },
};

static const struct parameter get_command[] = {
	{ "Name", NULL, LIST | STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE, .help = "Names; * and ? match several." },
	{ "Verb", NULL, STRING, ALL_SETS, .help = "The part before the dash." },
	{ "Noun", NULL, STRING, ALL_SETS, .help = "The part after the dash." },
	{ "Module", NULL, STRING, ALL_SETS, .help = "The module it belongs to." },
	{ "Syntax", NULL, SWITCH, ALL_SETS, .help = "How each is called." },
	{ "CommandType", "Type", STRING, ALL_SETS, .fate = HARMLESS, .help = "Accepted; all are cmdlets." },
};

static const struct parameter start_sleep[] = {
	{ "Seconds", NULL, ANY, IN(0), .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .help = "How long." },
	{ "Milliseconds", "ms", INT32, IN(1), .mandatory = true, .help = "How long, in thousandths." },
};

static const struct parameter import_module[] = {
	{ "Name", NULL, LIST | STRING, ALL_SETS, .position = AT(0), .pipeline = BY_VALUE, .mandatory = true,
	  .help = "A module of those that Get-Command names." },
	{ "Force", NULL, SWITCH, ALL_SETS, .fate = HARMLESS, .help = "Accepted; there is nothing to do." },
};

#define CORE "Microsoft.PowerShell.Core"
#define UTILITY "Microsoft.PowerShell.Utility"

static const struct cmdlet cmdlets[] = {
	{ "Get-Help", CORE, "help,man", "Say how a cmdlet is used.", NULL, get_help, ARRAY_SIZE(get_help), 0, NULL,
	  "Get-Help Set-VMProcessor\tone cmdlet\n"
	  "Get-Help New-VM -Examples\tits examples\n"
	  "Get-Help Network\twhat has this in its name\n", help_get },
	{ "Get-Command", CORE, "gcm", "List cmdlets.", NULL, get_command, ARRAY_SIZE(get_command), 0, "Command",
	  "Get-Command *VM\tby name\n"
	  "Get-Command -Module NetNat\tby module\n", help_commands },
	{ "Start-Sleep", UTILITY, "sleep", "Wait for a time.", "Seconds,Milliseconds",
	  start_sleep, ARRAY_SIZE(start_sleep), 0, NULL, "Start-Sleep -Milliseconds 100\ta tenth of a second\n",
	  session_sleep },
	{ "Import-Module", CORE, "ipmo", "Accepted: every module is there already.", NULL,
	  import_module, ARRAY_SIZE(import_module), 0, NULL, "Import-Module Hyper-V\tnothing to do\n",
	  session_import_module },
	{ "Clear-Host", CORE, "clear,cls", "Clear the terminal.", NULL, NULL, 0, 0, NULL, "Clear-Host\tempty\n",
	  session_clear },
};

const struct cmdlet_table cmdlets_session = { cmdlets, ARRAY_SIZE(cmdlets) };
