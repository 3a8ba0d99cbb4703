package testserver

import "syscall"

// asOwner makes a program run as that user, and end when the test's process was killed and could not end it.
func asOwner(o *owner) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if o != nil {
		attr.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
	return attr
}
