/* What a switch process of one VM's own may still do after it has started. */
#ifndef NESTOR_NET_SANDBOX_H
#define NESTOR_NET_SANDBOX_H

/* Of the file system only /etc (and where its resolv.conf may point), for
 * reading, where the kernel has Landlock; of root's capabilities only that for echo requests.
 * Descriptors that are open stay. */
void sandbox_enter(void);

#endif
