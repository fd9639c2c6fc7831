/* Test-NetConnection, and the two cmdlets that install Hyper-V: they look
 * whether this system can run virtual machines with its processor's help. */
#include "service/guest.h"
#include "service/call.h"

#include "base/bits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum {
	TRY_MS = 4000,
	PORT_TEXT = 8,
	ANSWER_SIZE = 512,
	IHL_MASK = 0x0f,	/* of the IPv4 header's first byte: its length in words */
};

/* Features. */

static void not_ready(struct call *c, const char *name, const char *reason, const char *remedy)
{
	call_error(c, "InvalidState", name,
		   "Hyper-V cannot be installed: The processor does not have required virtualization capabilities.",
		   reason, remedy);
}

static void install(struct call *c, const char *name)
{
	static const char device[] = "/dev/kvm";
	enum guest_extensions which = guest_extensions();
	if (!call_should(c, call_text(c, "%s will make %s ready.", c->cmdlet->name, name)))
		return;
	if (which == EXTENSIONS_NONE && guest_is_nestors()) {
		not_ready(c, name, "This virtual machine's processor has neither VMX nor SVM: its host does not expose them.",
			  "On the host, while this virtual machine is Off: Set-VMProcessor -VMName NAME -ExposeVirtualizationExtensions $true");
		return;
	}
	if (which == EXTENSIONS_NONE) {
		call_say(c, "warning",
			 "This system's processor has neither VMX nor SVM. Virtual machines run on Nestor's own engine, which needs neither.");
	} else {
		if (access(device, F_OK))
			guest_load_module(which == EXTENSIONS_VMX ? "kvm_intel" : "kvm_amd");
		if (access(device, F_OK)) {
			not_ready(c, name, call_text(c, "The processor has %s, but Linux has no KVM: %s is not there, and its modules cannot be loaded.",
						     which == EXTENSIONS_VMX ? "VMX" : "SVM", device),
				  call_text(c, "As root: modprobe %s", which == EXTENSIONS_VMX ? "kvm_intel" : "kvm_amd"));
			return;
		}
		if (access(device, R_OK | W_OK)) {
			call_error(c, "PermissionDenied", name, "You do not have the required permission to complete this task.",
				   call_text(c, "%s is not open to this user (%s).", device, strerror(errno)),
				   "As root: usermod -aG kvm USER; then log in again.");
			return;
		}
		call_say(c, "information", call_text(c, "The processor has %s, and KVM is loaded: this system can run virtual machines.",
						     which == EXTENSIONS_VMX ? "VMX" : "SVM"));
	}
	call_object(c, json_pack("{s:s,s:b,s:s,s:s,s:[s],s:b}", "$type", "FeatureOperationResult", "Success", 1,
		"RestartNeeded", "No", "ExitCode", "Success", "FeatureResult", name, "Online", 1));
}

static void install_feature(struct call *c)
{
	static const char *const names[] = { "Hyper-V*", "RSAT-Hyper-V*", "Microsoft-Hyper-V*" };
	json_t *list = call_list(c, c->params && call_parameter(c, "FeatureName") ? "FeatureName" : "Name"), *item;
	size_t i;
	json_array_foreach(list, i, item) {
		const char *name = json_is_string(item) ? json_string_value(item) : "";
		bool known = false;
		for (unsigned n = 0; n < ARRAY_SIZE(names); n++)
			known = known || wildcard_match(names[n], name);
		if (known)
			install(c, name);
		else
			call_error(c, "InvalidParameter", name,
				call_text(c, "The feature name \"%s\" is unknown.", name),
				"Nestor is Hyper-V only.", "Install-WindowsFeature Hyper-V");
	}
	json_decref(list);
}

/* Test-NetConnection. */

static bool connects(const struct addrinfo *to, struct sockaddr_storage *own)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), why = -1;
	socklen_t n = sizeof why, room = sizeof *own;
	if (fd < 0)
		return false;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	bool well = !connect(fd, to->ai_addr, to->ai_addrlen) ||
		(errno == EINPROGRESS && poll(&p, 1, TRY_MS) == 1 &&
		 !getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) && !why);
	if (well)
		getsockname(fd, (struct sockaddr *)own, &room);
	close(fd);
	return well;
}

/* ICMP Echo (RFC 792), by the kernel's own ping sockets where this user may have
 * them, else by a raw one. IPv4 only. */
static bool answers_ping(const struct addrinfo *to)
{
	struct icmphdr request = { .type = ICMP_ECHO, .checksum = (uint16_t)~ICMP_ECHO };
	uint8_t answer[ANSWER_SIZE];
	struct sockaddr_in from;
	bool raw = false, well = false;
	int fd = to->ai_family != AF_INET ? -1 :
		socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
	if (fd < 0 && to->ai_family == AF_INET) {
		fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
		raw = true;
	}
	if (fd < 0)
		return false;
	int64_t until = service_now() + TRY_MS;
	sendto(fd, &request, sizeof request, 0, to->ai_addr, to->ai_addrlen);
	for (int64_t left; !well && (left = until - service_now()) > 0;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		socklen_t room = sizeof from;
		if (poll(&p, 1, (int)left) != 1)
			break;
		ssize_t n = recvfrom(fd, answer, sizeof answer, 0, (struct sockaddr *)&from, &room);
		size_t at = raw ? (size_t)(answer[0] & IHL_MASK) * sizeof(uint32_t) : 0;
		well = n > (ssize_t)at && answer[at] == ICMP_ECHOREPLY &&
			from.sin_addr.s_addr == ((struct sockaddr_in *)to->ai_addr)->sin_addr.s_addr;
	}
	close(fd);
	return well;
}

static int port_of(struct call *c)
{
	static const struct { const char *name; int port; } common[] = {
		{ "HTTP", 80 }, { "RDP", 3389 }, { "SMB", 445 }, { "WINRM", 5985 },
	};
	const char *name = call_string(c, "CommonTCPPort");
	for (unsigned i = 0; name && i < ARRAY_SIZE(common); i++)
		if (!strcasecmp(common[i].name, name))
			return common[i].port;
	return (int)get_integer(c->params, "Port");
}

static void test_connection(struct call *c)
{
	const char *name = call_string(c, "ComputerName"), *level = call_string(c, "InformationLevel");
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	struct sockaddr_storage own = { 0 };
	char port_text[PORT_TEXT], address[NI_MAXHOST] = "", source[NI_MAXHOST] = "";
	int port = port_of(c);
	bool reached = false;
	snprintf(port_text, sizeof port_text, "%d", port);
	/* Others need not wait for a machine that does not answer. */
	service_unlock(c->service);
	if (name && *name && *name != '-' && !getaddrinfo(name, port_text, &hints, &found)) {
		getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST);
		reached = port ? connects(found, &own) : answers_ping(found);
	}
	if (own.ss_family)
		getnameinfo((struct sockaddr *)&own, sizeof own, source, sizeof source, NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(found);
	service_lock(c->service);
	if (!*address)
		call_say(c, "warning", call_text(c, "Name resolution of %s failed", name ? name : ""));
	else if (!reached)
		call_say(c, "warning", port ? call_text(c, "TCP connect to (%s : %d) failed", address, port) :
			 call_text(c, "Ping to %s failed", address));
	if (level && !strcasecmp(level, "Quiet")) {
		call_object(c, json_boolean(reached));
		return;
	}
	json_t *object = json_pack("{s:s,s:s,s:s}", "$type", "NetConnectionResult", "ComputerName",
				   name ? name : "", "RemoteAddress", address);
	if (port) {
		json_object_set_new(object, "RemotePort", json_integer(port));
		json_object_set_new(object, "SourceAddress", json_string(source));
		json_object_set_new(object, "TcpTestSucceeded", json_boolean(reached));
	} else {
		json_object_set_new(object, "PingSucceeded", json_boolean(reached));
	}
	call_object(c, object);
}

const struct cmdlet feature_cmdlets[] = {
	{ "Install-WindowsFeature", install_feature, " Name ", NULL },
	{ "Enable-WindowsOptionalFeature", install_feature, " FeatureName ", NULL },
	{ "Test-NetConnection", test_connection, " ComputerName Port CommonTCPPort InformationLevel ", NULL },
	{ NULL }
};
