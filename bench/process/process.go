// Package process tells what processes of a benchmark take of the processor. Linux only.
package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Children lists the processes that a process has started and that still run.
func Children(pid int) (list []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil
	}
	for _, s := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(s); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// CPUTime is the CPU time of a process, user and system, in seconds; with ended also that of its children that have ended.
func CPUTime(pid int, ended bool) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	take := fields[11:13]
	if ended {
		take = fields[11:15]
	}
	sum := 0.0
	for _, f := range take {
		ticks, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		sum += ticks / 100 // USER_HZ is 100 on Linux
	}
	return sum, nil
}
