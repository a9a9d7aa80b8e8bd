// Command cluster is a one-machine Kubernetes test cluster without containers: etcd, the API server
// and the controller manager as library code, and a node agent that runs pods as local processes.
package main

import (
	"fmt"
	"os"
	"sort"

	"cluster/node"
)

// commands maps a subcommand to its main function; os.Args then starts at the subcommand.
var commands = map[string]func(){"node": node.Main}

func main() {
	if len(os.Args) > 1 {
		if run, ok := commands[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			run()
			return
		}
	}
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: cluster COMMAND [flags]\ncommands: %v\n", names)
	os.Exit(2)
}
