"""One class per kernel fd: /dev/kvm, a VM, a vCPU, an eventfd, a memfd. Failures are OSErrors that name the call."""
