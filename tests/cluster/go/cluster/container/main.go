// Command container turns itself into a container's program: see package contain.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"cluster/contain"
)

func init() {
	runtime.LockOSThread() // what the kernel keeps per thread must belong to the thread that executes the program
}

func main() {
	input := os.NewFile(contain.SpecDescriptor, "spec")
	var spec contain.Spec
	err := json.NewDecoder(input).Decode(&spec)
	input.Close()
	if err == nil {
		err = spec.Run()
	}
	fmt.Fprintln(os.Stderr, "container:", err)
	os.Exit(128)
}
