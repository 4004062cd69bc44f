// The command `lanyard`: what its subcommands are.
//
// `main` is asynchronous, so it runs on the main actor. What the subcommands start are child tasks of
// groups, which do not, and nothing here blocks the main thread while it waits for them.

import ArgumentParser

@main
struct LanyardCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lanyard",
    abstract: "A database behind a handle that nobody can forget to close.",
    subcommands: [
      ImportCommand.self, SQLCommand.self, LeaksCommand.self, VersionCommand.self,
    ]
  )
}
