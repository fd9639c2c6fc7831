/* Cmdlets that choose, order and count objects. */
#include "shell/objects.h"

#include "base/bits.h"

#define INPUT { "InputObject", NULL, ANY, ALL_SETS, .pipeline = BY_VALUE, \
		.help = "The objects, when they do not come through the pipeline." }

#define COMPARISON(name, aliases) { name, aliases, SWITCH, IN(1), .help = "Keep an object when this holds." }

static const struct parameter where_object[] = {
	{ "FilterScript", NULL, BLOCK, IN(0), .position = AT(0), .mandatory = true,
	  .help = "A block that says of each object, which is $_ in it, whether to keep it." },
	{ "Property", NULL, STRING, IN(1), .position = AT(0), .mandatory = true, .help = "The property to look at." },
	{ "Value", NULL, ANY, IN(1), .position = AT(1), .help = "What to compare it with." },
	COMPARISON("EQ", "IEQ"), COMPARISON("NE", "INE"), COMPARISON("GT", "IGT"), COMPARISON("GE", "IGE"),
	COMPARISON("LT", "ILT"), COMPARISON("LE", "ILE"), COMPARISON("Like", "ILike"),
	COMPARISON("NotLike", "INotLike"), COMPARISON("Match", "IMatch"), COMPARISON("NotMatch", "INotMatch"),
	COMPARISON("Contains", "IContains"), COMPARISON("NotContains", "INotContains"), COMPARISON("In", "IIn"),
	COMPARISON("NotIn", "INotIn"), COMPARISON("CEQ", NULL), COMPARISON("CNE", NULL),
	COMPARISON("CLike", NULL), COMPARISON("CMatch", NULL),
	{ "Not", NULL, SWITCH, IN(1), .help = "Keep those for which it does not hold." },
	INPUT,
};

static const struct parameter select_object[] = {
	{ "Property", NULL, LIST | ANY, ALL_SETS, .position = AT(0),
	  .help = "Properties to keep; @{ Name = 'x'; Expression = { ... } } makes one." },
	{ "ExpandProperty", NULL, STRING, ALL_SETS, .help = "Give out this property's value instead of the object." },
	{ "First", NULL, INT32, ALL_SETS, .minimum = 0, .maximum = INT32_MAX, .help = "How many from the beginning." },
	{ "Last", NULL, INT32, ALL_SETS, .minimum = 0, .maximum = INT32_MAX, .help = "How many from the end." },
	{ "Skip", NULL, INT32, ALL_SETS, .minimum = 0, .maximum = INT32_MAX, .help = "How many to leave out." },
	{ "Index", NULL, LIST | INT32, ALL_SETS, .help = "Only these, counted from 0." },
	{ "Unique", NULL, SWITCH, ALL_SETS, .help = "Leave out those that are the same as one before." },
	INPUT,
};

static const struct parameter sort_object[] = {
	{ "Property", NULL, LIST | ANY, ALL_SETS, .position = AT(0), .help = "What to sort by." },
	{ "Descending", NULL, SWITCH, ALL_SETS, .help = "The largest first." },
	{ "Unique", NULL, SWITCH, ALL_SETS, .help = "Only one of those that are the same." },
	{ "CaseSensitive", NULL, SWITCH, ALL_SETS, .help = "A is not a." },
	INPUT,
};

static const struct parameter for_each_object[] = {
	{ "Process", NULL, BLOCK, IN(0), .position = AT(0), .mandatory = true,
	  .help = "A block to run for each object, which is $_ in it." },
	{ "Begin", NULL, BLOCK, IN(0), .help = "A block to run before the first." },
	{ "End", NULL, BLOCK, IN(0), .help = "A block to run after the last." },
	{ "MemberName", NULL, STRING, IN(1), .position = AT(0), .mandatory = true,
	  .help = "Give out this property of each object." },
	{ "Parallel", NULL, BLOCK, ALL_SETS, .fate = REFUSED, .help = "Blocks run one after the other here." },
	INPUT,
};

static const struct parameter measure_object[] = {
	{ "Property", NULL, LIST | STRING, ALL_SETS, .position = AT(0), .help = "Properties to measure." },
	{ "Sum", NULL, SWITCH, ALL_SETS, .help = "Add them up." },
	{ "Average", NULL, SWITCH, ALL_SETS, .help = "Their mean." },
	{ "Minimum", NULL, SWITCH, ALL_SETS, .help = "The least." },
	{ "Maximum", NULL, SWITCH, ALL_SETS, .help = "The greatest." },
	{ "AllStats", NULL, SWITCH, ALL_SETS, .help = "All of these." },
	INPUT,
};

static const struct parameter get_member[] = {
	{ "Name", NULL, LIST | STRING, ALL_SETS, .position = AT(0), .fate = REFUSED,
	  .help = "Where-Object on what comes out serves." },
	{ "MemberType", NULL, STRING, ALL_SETS, .fate = HARMLESS, .help = "Accepted; all members are properties." },
	INPUT,
};

#define UTILITY "Microsoft.PowerShell.Utility"
#define CORE "Microsoft.PowerShell.Core"

static const struct cmdlet cmdlets[] = {
	{ "Where-Object", CORE, "where,?", "Keep the objects that fit.", "ScriptBlock,Property",
	  where_object, ARRAY_SIZE(where_object), 0, NULL,
	  "Get-VM | Where-Object State -eq Running\tby a property\n"
	  "Get-VM | ? { $_.State -eq 'Running' -and $_.Generation -eq 2 }\tby a block\n", object_where },
	{ "Select-Object", UTILITY, "select", "Keep some objects, or some of their properties.", NULL,
	  select_object, ARRAY_SIZE(select_object), 0, NULL,
	  "Get-VM | Select-Object Name, State\tsome properties\n"
	  "Get-VM | Select-Object -First 1\tthe first object\n"
	  "Get-VM | Select-Object -ExpandProperty Name\tthe names alone\n", object_select },
	{ "Sort-Object", UTILITY, "sort", "Put objects into order.", NULL,
	  sort_object, ARRAY_SIZE(sort_object), 0, NULL,
	  "Get-VM | Sort-Object MemoryStartup -Descending\tthe largest first\n", object_sort },
	{ "ForEach-Object", CORE, "foreach,%", "Do something for each object.", "ScriptBlock,PropertyAndMethod",
	  for_each_object, ARRAY_SIZE(for_each_object), 0, NULL,
	  "1..3 | ForEach-Object { New-VM \"lab$_\" }\tthree machines\n"
	  "Get-VM | ForEach-Object Name\tthe names alone\n", object_for_each },
	{ "Measure-Object", UTILITY, "measure", "Count objects and add up their properties.", NULL,
	  measure_object, ARRAY_SIZE(measure_object), 0, "GenericMeasureInfo",
	  "Get-VM | Measure-Object\thow many\n"
	  "Get-VM | Measure-Object MemoryAssigned -Sum\tmemory of all\n", object_measure },
	{ "Get-Member", UTILITY, "gm", "Show which properties an object has.", NULL,
	  get_member, ARRAY_SIZE(get_member), 0, "Member", "Get-VM | Get-Member\tof a machine\n", help_members },
};

const struct cmdlet_table cmdlets_object = { cmdlets, ARRAY_SIZE(cmdlets) };
