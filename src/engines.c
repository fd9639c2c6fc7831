#include "engines.h"

#include "base/bits.h"

const struct engine_ops *const engines[] = {
#ifdef NESTOR_KVM
	&kvm_engine_ops,
#endif
#ifdef NESTOR_SOFT
	&soft_engine_ops,
#endif
};
const unsigned engines_count = ARRAY_SIZE(engines);
