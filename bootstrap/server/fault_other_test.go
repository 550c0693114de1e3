//go:build !linux

package server_test

import "errors"

func mountTmpfs(string) error { return errors.New("there is none but on Linux") }
