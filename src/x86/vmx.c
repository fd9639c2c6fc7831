/* Names of VMX exit reasons and VM-instruction errors. */
#include "x86/vmx.h"

const char *vmx_exit_reason_name(unsigned reason)
{
	static const char *const name[VMX_EXIT_REASON_COUNT] = {
#define X(id, number, text) [number] = text,
		VMX_EXIT_REASONS(X)
#undef X
	};
	return reason < VMX_EXIT_REASON_COUNT && name[reason] ? name[reason] : "unknown exit reason";
}

const char *vmx_error_name(unsigned error)
{
	static const char *const name[] = {
#define X(id, number, text) [number] = text,
		VMX_ERRORS(X)
#undef X
	};
	return error < ARRAY_SIZE(name) && name[error] ? name[error] : "unknown VM-instruction error";
}
