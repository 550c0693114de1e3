//go:build !linux

package session

func limitFiles() {}
