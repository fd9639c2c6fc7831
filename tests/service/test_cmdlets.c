/* Cmdlets without processes: the rules, the defaults, the errors. */
#include "base/bits.h"
#include "cmdlet_test.h"
#include "service/network.h"
#include "service/paths.h"
#include "service/store.h"

#include <errno.h>
#include <sys/stat.h>

static char folder[] = "/tmp/test_cmdlets.XXXXXX";
static struct service *service_now_open;

static json_t *ask(const char *method, json_t *params)
{
	service_lock(service_now_open);
	json_t *result = service_run(service_now_open, method, params, NULL);
	service_unlock(service_now_open);
	json_decref(params);
	return result;
}

static int begin(void **state)
{
	char command[128];
	struct error e = { 0 };
	snprintf(command, sizeof command, "rm -rf %s/*", folder);
	if (system(command) || paths_prepare(&e))
		return -1;
	service_now_open = service_create(&e);
	if (!service_now_open)
		print_error("%s\n", e.text);
	return !service_now_open;
}

static int end(void **state)
{
	json_decref(last);
	last = NULL;
	service_destroy(service_now_open);
	return 0;
}

static void reopen(void)
{
	end(NULL);
	struct error e = { 0 };
	service_now_open = service_create(&e);
	assert_non_null(service_now_open);
}

static void new_vm_has_hyper_v_s_defaults(void **state)
{
	fine("New-VM", "{}");
	is("$type", "VirtualMachine");
	is("Name", "New virtual machine");
	is("State", "Off");
	is("Status", "Operating normally");
	is_number("MemoryStartup", (int64_t)(512 * MIB));
	is_number("MemoryMaximum", (int64_t)(1024 * GIB));
	is_number("Generation", 1);
	is_number("ProcessorCount", 1);
	is("Version", "12.0");
	is("AutomaticStartAction", "StartIfRunning");
	is("AutomaticStopAction", "Save");
	fine("Get-VMProcessor", "{'VMName':['New virtual machine']}");
	is_number("Count", 1);
	is_number("Maximum", 100);
	is_number("RelativeWeight", 100);
	assert_false(get_true(object(0), "ExposeVirtualizationExtensions"));
	fine("Get-VMMemory", "{'VMName':['New virtual machine']}");
	is_number("Buffer", 20);
	is_number("Priority", 50);
	assert_false(get_true(object(0), "DynamicMemoryEnabled"));
	fine("Get-VMNetworkAdapter", "{'VMName':['New virtual machine']}");
	is("Name", "Network Adapter");
	is("SwitchName", "");
	is("MacAddress", "000000000000");
	is("MacAddressSpoofing", "Off");
}

static void names_ids_and_wildcards(void **state)
{
	fine("New-VM", "{'Name':'lab'}");
	fine("New-VM", "{'Name':'lab'}");	/* the id is the key */
	fine("New-VM", "{'Name':'other'}");
	fine("Get-VM", "{'Name':['LAB']}");
	assert_int_equal(objects(), 2);
	char id[64];
	snprintf(id, sizeof id, "%s", get_text(object(0), "Id"));
	fine("Get-VM", "{'Id':'%s'}", id);
	assert_int_equal(objects(), 1);
	fine("Get-VM", "{'Name':['l*','o?her']}");
	assert_int_equal(objects(), 3);
	fine("Get-VM", "{'Name':['x*']}");
	assert_int_equal(objects(), 0);
	fine("Get-VM", "{'Name':['[a-m]ab']}");
	assert_int_equal(objects(), 2);
	fine("Get-VM", "{}");
	assert_int_equal(objects(), 3);
	run("Get-VM", "{'Name':['nobody','other']}");
	assert_int_equal(objects(), 1);	/* the call goes on after one fails */
	says("Hyper-V was unable to find a virtual machine with name \"nobody\".", folder);
	assert_string_equal(get_text(error(0), "category"), "InvalidArgument");
	assert_string_equal(get_text(error(0), "id"), "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM");
	run("Set-VM", "{'VM':[{'Id':'%s'}],'Notes':'by id','Passthru':true}", id);
	is("Notes", "by id");
}

static void what_is_set_is_kept(void **state)
{
	fine("New-VM", "{'Name':'lab','Generation':2,'Version':'9.0','MemoryStartupBytes':1073741824}");
	fine("Set-VM", "{'Name':['lab'],'NewVMName':'lab 2','Notes':'x','ProcessorCount':2,'AutomaticStopAction':'turnoff'}");
	fine("Set-VMProcessor", "{'VMName':['lab 2'],'ExposeVirtualizationExtensions':true}");
	fine("Set-VMFirmware", "{'VMName':['lab 2'],'KernelPath':'/k','KernelCommandLine':'a b'}");
	reopen();
	fine("Get-VM", "{'Name':['lab 2']}");
	is("Notes", "x");
	is("Version", "9.0");
	is("AutomaticStopAction", "TurnOff");
	is_number("Generation", 2);
	is_number("ProcessorCount", 2);
	fine("Get-VMProcessor", "{'VMName':['lab 2']}");
	assert_true(get_true(object(0), "ExposeVirtualizationExtensions"));
	fine("Get-VMFirmware", "{'VMName':['lab 2']}");
	is("KernelPath", "/k");
	fine("Remove-VM", "{'Name':['lab 2']}");
	fine("Get-VM", "{}");
	assert_int_equal(objects(), 0);
}

static void whatif_changes_nothing(void **state)
{
	fine("New-VM", "{'Name':'lab','WhatIf':true}");
	assert_int_equal(objects(), 0);
	fine("Get-VM", "{}");
	assert_int_equal(objects(), 0);
	fine("New-VM", "{'Name':'lab'}");
	fine("Set-VMProcessor", "{'VMName':['lab'],'Count':4,'WhatIf':true}");
	assert_true(heard("whatif", "Set-VMProcessor will configure the processor settings of the virtual machine \"lab\"."));
	fine("Get-VMProcessor", "{'VMName':['lab']}");
	is_number("Count", 1);
	fine("Set-VMProcessor", "{'VMName':['lab'],'Count':2,'Verbose':true}");
	assert_true(heard("verbose", "Set-VMProcessor will configure the processor settings of the virtual machine \"lab\"."));
	fine("Remove-VM", "{'Name':['lab'],'WhatIf':true}");
	fine("Get-VM", "{}");
	assert_int_equal(objects(), 1);
}

static void ranges_and_kinds(void **state)
{
	static const struct { const char *method, *parameters, *reason; } bad[] = {
		{ "Set-VMProcessor", "'Count':0", "from 1 to 64" },
		{ "Set-VMProcessor", "'Count':65", "from 1 to 64" },
		{ "Set-VMProcessor", "'Count':'two'", "a whole number" },
		{ "Set-VMProcessor", "'ExposeVirtualizationExtensions':'yes'", "$true or $false" },
		{ "Set-VMProcessor", "'Reserve':10", "cannot keep processor time" },
		{ "Set-VMProcessor", "'RelativeWeight':10001", "from 1 to 10000" },
		{ "Set-VMMemory", "'StartupBytes':1048577", "multiples of 2097152" },
		{ "Set-VMMemory", "'StartupBytes':2097152", "from 33554432" },
		{ "Set-VMMemory", "'Buffer':4", "from 5 to 2000" },
		{ "Set-VMMemory", "'Priority':101", "from 0 to 100" },
		{ "Set-VMMemory", "'DynamicMemoryEnabled':true,'MinimumBytes':1073741824", "Minimum <= Startup" },
		{ "Set-VMFirmware", "'EnableSecureBoot':'On'", "no firmware" },
		{ "Set-VMNetworkAdapter", "'MacAddressSpoofing':'Maybe'", "On Off" },
		{ "Set-VMNetworkAdapter", "'StaticMacAddress':'01005E000001'", "unicast" },
		{ "Set-VMNetworkAdapter", "'StaticMacAddress':'00155D'", "12 hexadecimal" },
		{ "Set-VMNetworkAdapter", "'AllowTeaming':'On'", "do not know teams" },
		{ "Set-VMNetworkAdapter", "'PortMirroring':'Source'", "do not mirror" },
		{ "Set-VMNetworkAdapter", "'StormLimit':10", "do not count storms" },
		{ "Set-VMNetworkAdapter", "'MaximumBandwidth':1000000", "do not divide bandwidth" },
		{ "Set-VMNetworkAdapter", "'VirtualSubnetId':5000", "no network virtualization" },
		{ "Set-VMNetworkAdapter", "'IovWeight':50", "no hardware" },
	};
	fine("New-VM", "{'Name':'lab'}");
	fine("Get-VM", "{}");
	json_t *before = json_incref(object(0));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		run(bad[i].method, "{'VMName':['lab'],%s}", bad[i].parameters);
		says("", bad[i].reason);
	}
	run("New-VM", "{'Name':'x','Generation':3}");
	says("generation", "1 or 2");
	run("New-VM", "{'Name':'x','Version':'4.0'}");
	says("'4.0' is not supported", "5.0");
	run("New-VM", "{'Name':'x','MemoryStartupBytes':3}");
	says("Failed to modify device 'Memory'.", "32 MB");
	run("New-VM", "{'Name':'x','Generation':2,'BootDevice':'IDE'}");
	assert_holds("message", "generation 2", __FILE__, __LINE__);
	run("New-VM", "{'Name':''}");
	says("name", "1 to 100");
	fine("Get-VM", "{}");
	assert_int_equal(objects(), 1);
	assert_true(json_equal(before, object(0)));
	json_decref(before);
}

static void an_unknown_parameter_is_refused(void **state)
{
	run("New-VM", "{'Name':'lab','SourceGuestStatePath':'x'}");
	says("-SourceGuestStatePath", "silently");
	fine("Get-VM", "{}");
	assert_int_equal(objects(), 0);
	service_lock(service_now_open);
	json_t *params = json_object();
	assert_null(service_run(service_now_open, "Get-Nothing", params, NULL));
	json_decref(params);
	service_unlock(service_now_open);
}

static void memory_errors_have_hyper_v_s_frame(void **state)
{
	char capitals[64];
	fine("New-VM", "{'Name':'lab'}");
	snprintf(capitals, sizeof capitals, "%s", get_text(object(0), "Id"));
	for (char *at = capitals; *at; at++)
		if (*at >= 'a')
			*at -= 'a' - 'A';
	run("Set-VMMemory", "{'VMName':['lab'],'StartupBytes':1048577}");
	says("Failed to modify device 'Memory'.\n'lab' failed to modify device 'Memory'. (Virtual machine ID ", "");
	says(capitals, "");
	assert_string_equal(get_text(error(0), "id"),
			    "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.SetVMMemory");
}

static void versions(void **state)
{
	fine("Get-VMHostSupportedVersion", "{}");
	assert_string_equal(get_text(object(0), "Version"), "5.0");
	fine("Get-VMHostSupportedVersion", "{'Default':true}");
	assert_int_equal(objects(), 1);
	is("Version", "12.0");
	fine("New-VM", "{'Name':'old','Version':'5.0'}");
	fine("Set-VMProcessor", "{'VMName':['old'],'ExposeVirtualizationExtensions':true}");
	run("Start-VM", "{'Name':['old']}");
	says("'old' failed to start. (Virtual machine ID ", "8.0");
	says("does not support nested virtualization", "old has 5.0");
	offers("Update-VMVersion -Name 'old'");
	fine("Update-VMVersion", "{'Name':['old'],'Passthru':true}");
	is("Version", "12.0");
	fine("Update-VMVersion", "{'Name':['old']}");
	assert_true(heard("warning", "No update was needed"));
	fine("New-VM", "{'Name':'pre','Prerelease':true}");
	is("Version", "254.0");
}

static void start_checks_before_it_starts(void **state)
{
	char path[128];
	fine("New-VM", "{'Name':'lab','MemoryStartupBytes':%llu}", 512 * GIB);
	fine("Set-VMFirmware", "{'VMName':['lab'],'KernelPath':'/nonexistent/kernel'}");
	run("Start-VM", "{'Name':['lab']}");
	says("'lab' failed to start.", "/nonexistent/kernel cannot be opened (No such file or directory)");
	fine("Set-VMFirmware", "{'VMName':['lab'],'KernelPath':'/bin/sh'}");
	run("Start-VM", "{'Name':['lab']}");
	says("Not enough memory in the system to start the virtual machine lab.", "It needs 524352 MB");
	fine("Set-VMMemory", "{'VMName':['lab'],'StartupBytes':67108864}");
	snprintf(path, sizeof path, "%s/d.img", folder);
	fine("New-VHD", "{'Path':['%s'],'SizeBytes':1048576,'Fixed':true}", path);
	fine("Add-VMHardDiskDrive", "{'VMName':['lab'],'Path':'%s'}", path);
	unlink(path);
	run("Start-VM", "{'Name':['lab']}");
	says("'lab' failed to start.", "d.img cannot be opened");
	offers("Remove-VMHardDiskDrive -VMName 'lab' -ControllerType IDE -ControllerNumber 0 -ControllerLocation 0");
	fine("Set-VMFirmware", "{'VMName':['lab'],'KernelPath':''}");
	fine("New-VHD", "{'Path':['%s'],'SizeBytes':1048576,'Fixed':true}", path);
	run("Start-VM", "{'Name':['lab']}");
	says("'lab' failed to start.", "needs firmware");
	offers("-KernelPath");
	fine("Remove-VMHardDiskDrive", "{'VMName':'lab','ControllerType':'IDE','ControllerNumber':0,'ControllerLocation':0}");
	run("Start-VM", "{'Name':['lab']}");	/* NESTOR_IMAGES is an empty folder */
	says("'lab' failed to start.", "is not built");
	offers("./demo");
}

static void what_needs_a_running_vm(void **state)
{
	static const char *const cmdlets[] = { "Suspend-VM", "Resume-VM", "Restart-VM" };
	fine("New-VM", "{'Name':'lab'}");
	for (unsigned i = 0; i < ARRAY_SIZE(cmdlets); i++) {
		run(cmdlets[i], "{'Name':['lab']}");
		says("The operation cannot be performed while the virtual machine is in its current state.", "lab is Off.");
	}
	run("Connect-VMConsole", "{'VMName':['lab']}");
	says("current state", "lab is Off.");
	fine("Stop-VM", "{'Name':['lab']}");
	assert_true(heard("warning", "already in the specified state"));
	fine("Wait-VM", "{'Name':['lab'],'State':'Off'}");
	run("Wait-VM", "{'Name':['lab'],'Timeout':1}");
	says("timed out", "it is Off");
}

static void switches_and_adapters(void **state)
{
	fine("Get-VMSwitch", "{}");
	is("Name", "Default Switch");
	run("Remove-VMSwitch", "{'Name':['Default Switch']}");
	says("default switch", "always there");
	fine("New-VMSwitch", "{'Name':'VmNAT','SwitchType':'Internal'}");
	is("SwitchType", "Internal");
	run("New-VMSwitch", "{'Name':'vmnat','SwitchType':'Private'}");
	says("Failed to create", "already");
	run("New-VMSwitch", "{'Name':'x','SwitchType':'External'}");
	says("type", "-NetAdapterName");
	fine("New-VM", "{'Name':'lab','SwitchName':'vmnat'}");
	run("New-VM", "{'Name':'lab','SwitchName':'none'}");
	says("Hyper-V was unable to find a virtual switch with name \"none\".", "VmNAT");
	fine("Get-VMNetworkAdapter", "{'VMName':['lab']}");
	is("SwitchName", "VmNAT");
	fine("Set-VMNetworkAdapter", "{'VMNetworkAdapter':[{'Id':'%s'}],'MacAddressSpoofing':'on'}",
	     get_text(object(0), "Id"));
	fine("Set-VMNetworkAdapter", "{'VMName':'lab','StaticMacAddress':'00-15-5d-aa-bb-cc'}");
	fine("Get-VMNetworkAdapter", "{'VMName':['lab']}");
	is("MacAddressSpoofing", "On");
	is("MacAddress", "00155DAABBCC");
	fine("Add-VMNetworkAdapter", "{'VMName':['lab'],'Name':'second','SwitchName':'Default Switch'}");
	fine("Get-VMNetworkAdapter", "{'VMName':['lab'],'Name':'sec*'}");
	assert_int_equal(objects(), 1);
	fine("Disconnect-VMNetworkAdapter", "{'VMName':['lab'],'Name':['second']}");
	fine("Connect-VMNetworkAdapter", "{'VMName':['lab'],'Name':['second'],'SwitchName':'VmNat','Passthru':true}");
	is("SwitchName", "VmNAT");
	run("Set-VMNetworkAdapter", "{'VMName':'lab','Name':'third','MacAddressSpoofing':'On'}");
	says("network adapter with name \"third\"", "lab");
	fine("Remove-VMNetworkAdapter", "{'VMName':['lab'],'Name':'second'}");
	fine("Get-VMNetworkAdapter", "{'All':true}");
	assert_int_equal(objects(), 3);	/* two switches' own and lab's */
	fine("Remove-VMSwitch", "{'Name':['VmNAT']}");
	fine("Get-VMNetworkAdapter", "{'VMName':['lab']}");
	is("SwitchName", "");
	reopen();
	fine("Get-VMSwitch", "{}");
	assert_int_equal(objects(), 1);
}

static void guards_and_their_ports(void **state)
{
	fine("New-VM", "{'Name':'lab','SwitchName':'Default Switch'}");
	fine("Set-VMNetworkAdapter", "{'VMName':'lab','DhcpGuard':'On','RouterGuard':'On'}");
	fine("Get-VMNetworkAdapter", "{'VMName':['lab']}");
	is("DhcpGuard", "On");
	is("RouterGuard", "On");
}

/* A switch's type changes with what hangs on it; what the host had there goes
 * with the host's adapter. */
static void switch_types(void **state)
{
	fine("New-VMSwitch", "{'Name':'net','SwitchType':'Internal'}");
	fine("New-NetIPAddress", "{'IPAddress':'192.168.7.1','PrefixLength':24,'InterfaceAlias':'vEthernet (net)'}");
	fine("Get-VMNetworkAdapter", "{'ManagementOS':true,'Name':'net'}");
	assert_string_equal(json_string_value(json_array_get(json_object_get(object(0), "IPAddresses"), 0)),
			    "192.168.7.1");
	fine("Set-VMSwitch", "{'Name':['net'],'SwitchType':'Private','Passthru':true}");
	is("SwitchType", "Private");
	assert_false(get_true(object(0), "AllowManagementOS"));
	fine("Get-NetAdapter", "{'Name':['vEthernet (net)*']}");
	assert_int_equal(objects(), 0);
	fine("Set-VMSwitch", "{'Name':['net'],'SwitchType':'Internal'}");
	fine("Get-NetIPAddress", "{'InterfaceAlias':['vEthernet (net)']}");
	assert_int_equal(objects(), 0);
	run("Set-VMSwitch", "{'Name':['net'],'AllowManagementOS':false}");
	says("management operating system's access", "External switches");
	run("Set-VMSwitch", "{'Name':['net'],'SwitchType':'External'}");
	says("type", "-NetAdapterName");
}

static void addresses_of_vethernet(void **state)
{
	static const struct { const char *given, *reason; } wrong[] = {
		{ "'IPAddress':'fe80::1','PrefixLength':64", "IPv6" },
		{ "'IPAddress':'192.168.7.1','AddressFamily':'IPv6','PrefixLength':24", "IPv6" },
		{ "'IPAddress':'192.168.7','PrefixLength':24", "no IPv4 address" },
		{ "'IPAddress':'192.168.7.1','PrefixLength':33", "no IPv4 address" },
		{ "'IPAddress':'192.168.7.1','Type':'Anycast','PrefixLength':24", "anycast" },
		{ "'IPAddress':'192.168.7.1','DefaultGateway':'192.168.7.2','PrefixLength':24", "nothing beyond" },
	};
	fine("New-VMSwitch", "{'Name':'net','SwitchType':'Internal'}");
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		run("New-NetIPAddress", "{'InterfaceAlias':'vEthernet (net)',%s}", wrong[i].given);
		says("The parameter is incorrect.", wrong[i].reason);
		assert_string_equal(get_text(error(0), "id"), "Windows System Error 87,New-NetIPAddress");
	}
	run("New-NetIPAddress", "{'IPAddress':'10.9.9.9','PrefixLength':24,'InterfaceAlias':'vEthernet (Default Switch)'}");
	says("incorrect", "own network");
	fine("New-NetIPAddress", "{'IPAddress':'192.168.7.1','PrefixLength':24,'InterfaceAlias':'VETHERNET (NET)'}");
	assert_int_equal(objects(), 2);
	assert_string_equal(get_text(object(0), "PolicyStore"), "ActiveStore");
	assert_string_equal(get_text(object(0), "AddressState"), "Tentative");
	assert_string_equal(get_text(object(1), "PolicyStore"), "PersistentStore");
	assert_string_equal(get_text(object(1), "AddressState"), "Invalid");
	run("New-NetIPAddress", "{'IPAddress':'192.168.7.1','PrefixLength':24,'InterfaceAlias':'vEthernet (net)'}");
	says("Instance MSFT_NetIPAddress already exists", "vEthernet (net)");
	reopen();
	fine("Get-NetIPAddress", "{'IPAddress':['192.168.7.1']}");
	is("AddressState", "Preferred");
	fine("Remove-NetIPAddress", "{'IPAddress':['192.168.7.1']}");
	run("Remove-NetIPAddress", "{'IPAddress':['192.168.7.1']}");
	says("No MSFT_NetIPAddress objects found", "");
}

static void where_vethernet_is(void **state)
{
	fine("New-VMSwitch", "{'Name':'net','SwitchType':'Internal','Verbose':true}");
	assert_true(heard("verbose", "NESTOR_VETHERNET is \"inside\"."));
	fine("Get-NetAdapter", "{'Name':['vEthernet (net)']}");
	is("InterfaceName", "");
	is("InterfaceDescription", "Hyper-V Virtual Ethernet Adapter #2");
}

/* 256 addresses, and one adapter more. */
static void a_full_pool_of_macs(void **state)
{
	enum { POOL = 256, ADAPTERS = 8 };
	char first[13];
	network_mac_pool(service_now_open, first);
	assert_memory_equal(first, "00155D", 6);
	for (unsigned vm = 0; vm < POOL / ADAPTERS; vm++) {
		json_t *adapters = json_array(), *object = json_pack("{s:s,s:s,s:s,s:o}", "Id",
			"00000000-0000-4000-8000-000000000000", "Name", "taken", "Version", "12.0",
			"Adapters", adapters);
		char id[STORE_ID_SIZE];
		struct error e;
		store_new_id(id);
		json_object_set_new(object, "Id", json_string(id));
		for (unsigned i = 0; i < ADAPTERS; i++)
			json_array_append_new(adapters, json_pack("{s:s,s:o}", "Id", "", "MacAddress",
				json_sprintf("%.10s%02X", first, vm * ADAPTERS + i)));
		assert_int_equal(store_put(service_now_open->store, STORE_VM, object, &e), 0);
		json_decref(object);
	}
	fine("New-VM", "{'Name':'late','MemoryStartupBytes':33554432}");
	fine("Set-VMFirmware", "{'VMName':'late','KernelPath':'%s/kernel'}", folder);
	char path[128];
	snprintf(path, sizeof path, "%s/kernel", folder);
	FILE *file = fopen(path, "w");
	fputs("none", file);
	fclose(file);
	run("Start-VM", "{'Name':['late']}");
	says("'late' failed to start.", "All 256 dynamic MAC addresses");
	assert_holds("message", "Attempt to access invalid address", __FILE__, __LINE__);
	offers("-StaticMacAddress");
}

static void nat(void **state)
{
	/* Before any address in it: it waits for one. */
	fine("New-NetNat", "{'Name':'LocalNAT','InternalIPInterfaceAddressPrefix':'192.168.100.0/24'}");
	is("InternalIPInterfaceAddressPrefix", "192.168.100.0/24");
	is("TcpFilteringBehavior", "AddressDependentFiltering");
	run("New-NetNat", "{'Name':'Second','InternalIPInterfaceAddressPrefix':'192.168.101.0/24'}");
	says("The parameter is incorrect.", "LocalNAT");
	assert_string_equal(get_text(error(0), "id"), "Windows System Error 87,New-NetNat");
	assert_string_equal(get_text(error(0), "exception"), "CimException");
	assert_string_equal(get_text(error(0), "target"), "MSFT_NetNat");
	assert_string_equal(get_text(error(0), "targetType"), "root/StandardCimv2/MSFT_NetNat");
	run("New-NetNat", "{'Name':'localnat','InternalIPInterfaceAddressPrefix':'192.168.100.128/25'}");
	says("The parameter is incorrect.", "of that name already");
	run("Add-NetNatStaticMapping", "{'NatName':'LocalNAT','Protocol':'TCP','ExternalIPAddress':'0.0.0.0','RemoteExternalIPAddressPrefix':'10.1.0.0/16','ExternalPort':1,'InternalIPAddress':'192.168.100.2'}");
	says("The parameter is incorrect.", "let in everybody");
	run("New-NetNat", "{'Name':'x','InternalIPInterfaceAddressPrefix':'10.7.0.0/24','ExternalIPInterfaceAddressPrefix':'10.8.0.0/24'}");
	says("The parameter is incorrect.", "one network outside");
	run("New-NetNat", "{'Name':'none'}");
	says("The parameter is incorrect.", "needs the prefix");
	fine("Add-NetNatStaticMapping", "{'NatName':'LocalNAT','Protocol':'tcp','ExternalIPAddress':'0.0.0.0/0','ExternalPort':8080,'InternalIPAddress':'192.168.100.2','InternalPort':80}");
	is("Protocol", "TCP");
	is_number("StaticMappingID", 0);
	run("Add-NetNatStaticMapping", "{'NatName':'LocalNAT','Protocol':'TCP','ExternalIPAddress':'0.0.0.0/0','ExternalPort':8080,'InternalIPAddress':'192.168.100.3'}");
	says("already exists", "mapping 0");
	run("Add-NetNatStaticMapping", "{'NatName':'LocalNAT','Protocol':'TCP','ExternalIPAddress':'0.0.0.0','ExternalPort':1,'InternalIPAddress':'10.0.0.1'}");
	says("incorrect", "not in the NAT's prefix");
	run("Add-NetNatStaticMapping", "{'NatName':'none','Protocol':'TCP','ExternalIPAddress':'0.0.0.0','ExternalPort':1,'InternalIPAddress':'10.0.0.1'}");
	says("none", "LocalNAT");
	fine("Get-NetNatStaticMapping", "{}");
	assert_int_equal(objects(), 1);
	fine("Remove-NetNatStaticMapping", "{'InputObject':[{'StaticMappingID':0,'NatName':'LocalNAT'}]}");
	fine("Get-NetNatStaticMapping", "{}");
	assert_int_equal(objects(), 0);
	fine("Remove-NetNat", "{}");
	fine("Get-NetNat", "{}");
	assert_int_equal(objects(), 0);
	run("New-NetNat", "{'Name':'bad','InternalIPInterfaceAddressPrefix':'192.168.100.0'}");
	says("incorrect", "no IPv4 prefix");
}

static void export_and_import(void **state)
{
	fine("New-VM", "{'Name':'lab','MemoryStartupBytes':268435456}");
	fine("Set-VMProcessor", "{'VMName':['lab'],'ExposeVirtualizationExtensions':true}");
	fine("Export-VM", "{'Name':['lab'],'Path':'%s/out'}", folder);
	run("Import-VM", "{'Path':'%s/out/lab'}", folder);
	says("Failed to import", "already");
	offers("-GenerateNewId");
	fine("Import-VM", "{'Path':'%s/out/lab','Copy':true,'GenerateNewId':true}", folder);
	is("Name", "lab");
	fine("Remove-VM", "{'Name':['lab']}");
	fine("Import-VM", "{'Path':'%s/out/lab'}", folder);
	fine("Get-VMProcessor", "{'VMName':['lab']}");
	assert_true(get_true(object(0), "ExposeVirtualizationExtensions"));
	run("Import-VM", "{'Path':'/nonexistent'}");
	says("Failed to import", "/nonexistent");
	run("Import-VM", "{'Path':'/etc/passwd'}");
	says("Failed to import", "/etc/passwd");
	/* Nothing that could make the service wait. */
	char path[128];
	snprintf(path, sizeof path, "%s/fifo", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	run("Import-VM", "{'Path':'%s'}", path);
	says("Failed to import", "no regular file");
	/* No name leads out of the folder. */
	fine("New-VM", "{'Name':'..'}");
	run("Export-VM", "{'Name':['..'],'Path':'%s/out'}", folder);
	says("Failed to export", "cannot be a folder's");
	fine("New-VM", "{'Name':'a/b'}");
	run("Export-VM", "{'Name':['a/b'],'Path':'%s/out'}", folder);
	says("Failed to export", "cannot be a folder's");
}

static void write_vm(const char *id, const char *members)
{
	char path[256];
	snprintf(path, sizeof path, "%s/vm/%s.json", folder, id);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "{\"Id\":\"%s\",\"SchemaVersion\":1%s}\n", id, members);
	fclose(file);
}

/* A file of an older Nestor lacks members; one that somebody edited may have wrong ones. */
static void a_file_that_lacks_members(void **state)
{
	write_vm("11111111-2222-4333-8444-555555555551", ",\"Name\":\"half\"");
	write_vm("11111111-2222-4333-8444-555555555552", ",\"Name\":\"odd\",\"Processor\":[]");
	write_vm("11111111-2222-4333-8444-555555555553", ",\"Name\":\"deep\",\"Memory\":{\"Startup\":\"1GB\"}");
	reopen();
	fine("Get-VM", "{}");
	assert_int_equal(objects(), 1);
	is("Name", "half");
	is("Version", "12.0");
	is_number("MemoryStartup", (int64_t)(512 * MIB));
	is_number("ProcessorCount", 1);
	assert_true(heard("warning", "its member Processor is not what it should be"));
	assert_true(heard("warning", "its member Startup is not what it should be"));
	fine("Set-VMProcessor", "{'VMName':['half'],'Count':2}");
	reopen();
	fine("Get-VM", "{'Name':['half']}");
	is_number("ProcessorCount", 2);
}

static void names_with_wildcards(void **state)
{
	fine("New-VM", "{'Name':'[x]'}");
	fine("New-VM", "{'Name':'star*'}");
	fine("New-VM", "{'Name':'starling'}");
	fine("Get-VM", "{'Name':['[X]']}");
	assert_int_equal(objects(), 1);
	fine("Get-VM", "{'Name':['star`*']}");
	assert_int_equal(objects(), 1);
	is("Name", "star*");
	fine("Get-VM", "{'Name':['star*']}");
	assert_int_equal(objects(), 2);
	fine("Get-VM", "{'Name':['`[*']}");
	is("Name", "[x]");
}

static int full(const char *step)
{
	return !strcmp(step, "write") ? ENOSPC : 0;
}

static void a_full_disk_is_an_error_of_the_call(void **state)
{
	fine("New-VM", "{'Name':'lab'}");
	store_fault = full;
	run("Set-VMProcessor", "{'VMName':['lab'],'Count':2}");
	store_fault = NULL;
	says("could not be saved", "No space left on device");
	fine("Get-VMProcessor", "{'VMName':['lab']}");
	is_number("Count", 1);
}

static void hello_and_completion(void **state)
{
	fine("Service.Hello", "{'version':1}");
	is("Store", folder);
	run("Service.Hello", "{'version':99}");
	says("another version", "1");
	fine("New-VM", "{'Name':'lab'}");
	fine("Service.Complete", "{'kind':'VM','prefix':'LA'}");
	assert_string_equal(json_string_value(object(0)), "lab");
	fine("Service.Complete", "{'kind':'NetAdapter','prefix':'vE'}");
	assert_string_equal(json_string_value(object(0)), "vEthernet (Default Switch)");
}

static void wildcards(void **state)
{
	assert_true(wildcard_match("*", ""));
	assert_true(wildcard_match("a*b*c", "AxxBxxC"));
	assert_false(wildcard_match("a*b*c", "axxbxx"));
	assert_true(wildcard_match("[abc]?", "Bz"));
	assert_false(wildcard_match("[abc]?", "b"));
	assert_true(wildcard_match("[", "["));
	assert_false(wildcard_match("?", ""));
	assert_true(wildcard_match("*****************x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaax"));
}

#define CMDLETS(test) cmocka_unit_test_setup_teardown(test, begin, end)
int main(void)
{
	const struct CMUnitTest tests[] = {
		CMDLETS(new_vm_has_hyper_v_s_defaults),
		CMDLETS(names_ids_and_wildcards),
		CMDLETS(what_is_set_is_kept),
		CMDLETS(whatif_changes_nothing),
		CMDLETS(ranges_and_kinds),
		CMDLETS(an_unknown_parameter_is_refused),
		CMDLETS(memory_errors_have_hyper_v_s_frame),
		CMDLETS(versions),
		CMDLETS(start_checks_before_it_starts),
		CMDLETS(what_needs_a_running_vm),
		CMDLETS(switches_and_adapters),
		CMDLETS(guards_and_their_ports),
		CMDLETS(switch_types),
		CMDLETS(addresses_of_vethernet),
		CMDLETS(where_vethernet_is),
		CMDLETS(a_full_pool_of_macs),
		CMDLETS(nat),
		CMDLETS(export_and_import),
		CMDLETS(a_file_that_lacks_members),
		CMDLETS(names_with_wildcards),
		CMDLETS(a_full_disk_is_an_error_of_the_call),
		CMDLETS(hello_and_completion),
		cmocka_unit_test(wildcards),
	};
	char command[128];
	if (!mkdtemp(folder))
		return 1;
	setenv("NESTOR_STORE", folder, 1);
	setenv("NESTOR_IMAGES", folder, 1);
	setenv("NESTOR_ENGINE", "soft", 1);
	setenv("NESTOR_VETHERNET", "inside", 1);
	unsetenv("NESTOR_RUNTIME");
	int result = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command) ? 1 : result;
}
