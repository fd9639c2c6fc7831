/* The roles `nestor service` and `nestor worker`. */
#ifndef NESTOR_SERVICE_ROLES_H
#define NESTOR_SERVICE_ROLES_H

/* The arguments after the role; the exit status. */
int service_main(int argc, char *const argv[]);
int worker_main(int argc, char *const argv[]);

#endif
