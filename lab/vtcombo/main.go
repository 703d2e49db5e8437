// Command vtcombo is Vitess's vtcombo with one flag more: static logins.
//
// vtgate can check a user's password against a file; vtcombo cannot, and with
// its "none" every password logs in. A shadow that accepts anything would hide
// what a login through the proxy has to get right.
package main

import (
	"fmt"
	"os"

	"vitess.io/vitess/go/cmd/vtcombo/cli"
	"vitess.io/vitess/go/mysql"
	"vitess.io/vitess/go/vt/vtgate"
)

func main() {
	var logins string
	cli.Main.Flags().StringVar(&logins, "mysql-auth-server-static-file", "",
		"JSON file of the users that may log in, and their passwords")
	vtgate.RegisterPluginInitializer(func() { mysql.InitAuthServerStatic(logins, "", 0) })

	if err := cli.Main.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
