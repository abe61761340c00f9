//! Statements of a template, from its tokens. Expressions have a file of their own.

use std::rc::Rc;

use super::ast::{Expr, For, MacroDef, MacroReads, Stmt, StmtKind, Target};
use super::error::{Error, Result};
use super::lexer::{self, Token, TokenKind};
use super::meter::Meter;

/// Blocks and expressions that may be inside one another. Parsing and dropping them recurses.
const MAX_NESTING: usize = 150;

/// Tags of Jinja that load other templates, which a chat template must not need.
const OTHER_TEMPLATES: [&str; 4] = ["include", "import", "from", "extends"];

/// Parses a template.
///
/// # Errors
/// Source that is not valid Jinja, or that uses what is not supported; with its line.
pub(super) fn parse(source: &str, meter: &Rc<Meter>) -> Result<Vec<Stmt>> {
    let tokens = lexer::tokens(source)?;
    let last_line = tokens.last().map_or(1, |token| token.line);
    let meter = Rc::clone(meter);
    let mut parser = Parser { tokens, at: 0, last_line, nesting: 0, reads: MacroReads::default(), meter, loops: 0 };
    let (body, _) = parser.body(&[])?;
    Ok(body)
}

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    last_line: u32,
    nesting: usize,
    /// Special names that were read since the start of the macro around.
    pub(super) reads: MacroReads,
    pub(super) meter: Rc<Meter>,
    /// Loops around, within the macro around.
    loops: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens.get(self.at).map_or(self.last_line, |token| token.line)
    }

    pub(super) fn advance(&mut self) -> Option<TokenKind> {
        let token = self.tokens.get_mut(self.at)?;
        self.at += 1;
        // Earlier tokens are not needed again.
        Some(std::mem::replace(&mut token.kind, TokenKind::BlockEnd))
    }

    pub(super) fn error<T>(&self, reason: impl std::fmt::Display) -> Result<T> {
        Err(Error::syntax(reason, self.line()))
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(TokenKind::Name(found)) if found == name)
    }

    pub(super) fn is_operator(&self, operator: &str) -> bool {
        matches!(self.peek(), Some(TokenKind::Operator(found)) if *found == operator)
    }

    /// Whether the token behind this one is `in`.
    pub(super) fn next_is_in(&self) -> bool {
        matches!(self.tokens.get(self.at + 1), Some(Token { kind: TokenKind::Name(name), .. }) if name == "in")
    }

    /// Whether a name and `=` follow.
    pub(super) fn next_is_assignment(&self) -> bool {
        let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
        matches!((self.peek(), next), (Some(TokenKind::Name(_)), Some(TokenKind::Operator("="))))
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_operator(&mut self, operator: &str) -> Result<()> {
        if self.skip_operator(operator) { Ok(()) } else { self.error(format_args!("expected {operator:?}")) }
    }

    pub(super) fn name(&mut self) -> Result<Rc<str>> {
        match self.peek() {
            Some(TokenKind::Name(_)) => {}
            _ => return self.error("expected a name"),
        }
        match self.advance() {
            Some(TokenKind::Name(name)) => Ok(name.into()),
            _ => self.error("expected a name"),
        }
    }

    /// Runs a part of the parser one level deeper.
    pub(super) fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting == MAX_NESTING {
            return self.error(format_args!("blocks and expressions are nested more than {MAX_NESTING} levels deep"));
        }
        self.nesting += 1;
        let parsed = part(self);
        self.nesting -= 1;
        parsed
    }

    /// Statements up to a tag of one of these names, which is returned with its `{%` taken; none is the end of the
    /// source.
    fn body(&mut self, ends: &[&'static str]) -> Result<(Vec<Stmt>, &'static str)> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.advance() {
                None if ends.is_empty() => return Ok((body, "")),
                None => return self.error(format_args!("the template ends before {:?}", ends.join("\" or \""))),
                Some(TokenKind::Data(text)) => StmtKind::Data(text),
                Some(TokenKind::PrintBegin) => {
                    let printed = self.tuple(true, &[])?;
                    match self.advance() {
                        Some(TokenKind::PrintEnd) => StmtKind::Print(printed),
                        _ => return Err(Error::syntax("expected \"}}\"", line)),
                    }
                }
                Some(TokenKind::BlockBegin) => {
                    if let Some(end) = ends.iter().find(|end| self.is_name(end)) {
                        self.at += 1;
                        return Ok((body, end));
                    }
                    let name = self.name()?;
                    self.nested(|parser| parser.statement(&name, line))?
                }
                Some(_) => return self.error("unexpected token"),
            };
            body.push(Stmt { line, kind });
        }
    }

    fn block_end(&mut self) -> Result<()> {
        match self.peek() {
            Some(TokenKind::BlockEnd) => self.at += 1,
            _ => return self.error("expected \"%}\""),
        }
        Ok(())
    }

    /// The body of a block, its end tag taken.
    fn block(&mut self, end: &'static str) -> Result<Vec<Stmt>> {
        self.block_end()?;
        let (body, _) = self.body(&[end])?;
        self.block_end()?;
        Ok(body)
    }

    /// The body of a block that no `break` leaves.
    fn captured_block(&mut self, end: &'static str) -> Result<Vec<Stmt>> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.block(end)?;
        self.loops = loops;
        Ok(body)
    }

    fn statement(&mut self, name: &str, line: u32) -> Result<StmtKind> {
        match name {
            "if" => self.if_statement(),
            "for" => self.for_statement(),
            "set" => self.set_statement(),
            "macro" => {
                let name = self.name()?;
                let parameters = self.parameters()?;
                Ok(StmtKind::Macro(self.macro_def(name, parameters, "endmacro")?))
            }
            "call" => self.call_statement(),
            "filter" => {
                let filters = self.filters(true)?;
                Ok(StmtKind::Filter(filters, self.captured_block("endfilter")?))
            }
            "with" => self.with_statement(),
            "generation" => Ok(StmtKind::With(Vec::new(), self.captured_block("endgeneration")?)),
            "block" => self.block_statement(),
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(Error::syntax(format_args!("{name:?} outside of a loop"), line));
                }
                self.block_end()?;
                Ok(if name == "break" { StmtKind::Break } else { StmtKind::Continue })
            }
            "autoescape" => Err(Error::syntax("the tag \"autoescape\" is not supported: a prompt is not HTML", line)),
            name if OTHER_TEMPLATES.contains(&name) => {
                let reason = format_args!("the tag {name:?} is not supported: there are no other templates to load");
                Err(Error::syntax(reason, line))
            }
            name => Err(Error::syntax(format_args!("unknown tag {name:?}"), line)),
        }
    }

    fn if_statement(&mut self) -> Result<StmtKind> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple(false, &[])?;
            self.block_end()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            match end {
                "elif" => {}
                "else" => return Ok(StmtKind::If(branches, self.block("endif")?)),
                _ => {
                    self.block_end()?;
                    return Ok(StmtKind::If(branches, Vec::new()));
                }
            }
        }
    }

    fn for_statement(&mut self) -> Result<StmtKind> {
        let target = self.target(&["in"])?;
        if !self.skip_name("in") {
            return self.error("expected \"in\"");
        }
        let items = self.tuple(false, &["recursive"])?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let (body, end) = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        let otherwise = if end == "else" {
            self.block("endfor")?
        } else {
            self.block_end()?;
            Vec::new()
        };
        Ok(StmtKind::For(Rc::new(For { target, items, condition, recursive, body, otherwise })))
    }

    fn set_statement(&mut self) -> Result<StmtKind> {
        let target = self.target(&[])?;
        if self.skip_operator("=") {
            let value = self.tuple(true, &[])?;
            self.block_end()?;
            return Ok(StmtKind::Set(target, value));
        }
        let filters = self.filters(false)?;
        Ok(StmtKind::Capture(target, filters, self.captured_block("endset")?))
    }

    fn with_statement(&mut self) -> Result<StmtKind> {
        let mut variables = Vec::new();
        while self.peek() != Some(&TokenKind::BlockEnd) {
            if !variables.is_empty() {
                self.expect_operator(",")?;
            }
            let target = self.single_target()?;
            self.expect_operator("=")?;
            variables.push((target, self.expression()?));
        }
        Ok(StmtKind::With(variables, self.block("endwith")?))
    }

    fn block_statement(&mut self) -> Result<StmtKind> {
        let name = self.name()?;
        let scoped = self.skip_name("scoped");
        self.skip_name("required");
        self.block_end()?;
        let loops = std::mem::take(&mut self.loops);
        let (body, _) = self.body(&["endblock"])?;
        self.loops = loops;
        self.skip_name(&name);
        self.block_end()?;
        Ok(if scoped { StmtKind::With(Vec::new(), body) } else { StmtKind::Block(body) })
    }

    fn call_statement(&mut self) -> Result<StmtKind> {
        let parameters = if self.is_operator("(") { self.parameters()? } else { Vec::new() };
        let call = self.expression()?;
        Ok(StmtKind::Call(call, self.macro_def("caller".into(), parameters, "endcall")?))
    }

    /// `(name, other=default)`.
    fn parameters(&mut self) -> Result<Vec<(Rc<str>, Option<Expr>)>> {
        self.expect_operator("(")?;
        let mut parameters: Vec<(Rc<str>, Option<Expr>)> = Vec::new();
        while !self.skip_operator(")") {
            if !parameters.is_empty() {
                self.expect_operator(",")?;
                if self.skip_operator(")") {
                    break;
                }
            }
            let name = self.name()?;
            let default = if self.skip_operator("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return self.error("a parameter without a default follows one with a default");
            }
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    fn macro_def(
        &mut self,
        name: Rc<str>,
        parameters: Vec<(Rc<str>, Option<Expr>)>,
        end: &'static str,
    ) -> Result<Rc<MacroDef>> {
        let outer = (std::mem::take(&mut self.reads), std::mem::take(&mut self.loops));
        let body = self.block(end)?;
        let reads = std::mem::replace(&mut self.reads, outer.0);
        self.loops = outer.1;
        Ok(Rc::new(MacroDef { name, parameters, body, reads }))
    }

    /// What is assigned to: one or more targets, up to one of these names.
    fn target(&mut self, ends: &[&str]) -> Result<Target> {
        let first = self.single_target()?;
        if !self.is_operator(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_operator(",") {
            if self.is_operator("=") || ends.iter().any(|end| self.is_name(end)) {
                break;
            }
            targets.push(self.single_target()?);
        }
        Ok(Target::Tuple(targets))
    }

    fn single_target(&mut self) -> Result<Target> {
        if self.skip_operator("(") {
            let target = self.nested(|parser| parser.target(&[]))?;
            self.expect_operator(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return self.error(format_args!("cannot assign to {name}"));
        }
        Ok(if self.skip_operator(".") { Target::Attribute(name, self.name()?) } else { Target::Name(name) })
    }
}
