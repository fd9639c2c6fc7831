/* The role `nestor switch`. */
#ifndef NESTOR_NET_ROLE_H
#define NESTOR_NET_ROLE_H

/* The arguments after the role; the exit status. */
int switch_main(int argc, char *const argv[]);

#endif
