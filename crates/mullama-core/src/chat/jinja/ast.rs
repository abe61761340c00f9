//! A template after parsing.

use std::rc::Rc;

use super::value::Value;

/// An expression and its line.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) line: u32,
    pub(super) node: Node,
}

/// What an expression does. Operators in a row are one node, so that a long sum is not a deep tree.
#[derive(Debug)]
pub(super) enum Node {
    Const(Value),
    Name(Rc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// A value and what follows it: `.name`, `[…]`, `(…)`, `| filter` and `is test`.
    Postfix(Box<Expr>, Vec<Step>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Not(Box<Expr>),
    /// Operators of one precedence, from left to right.
    Binary(Box<Expr>, Vec<(Operator, Expr)>),
    /// Parts joined with `~`.
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `value if condition else other`.
    If(Box<(Expr, Expr)>, Option<Box<Expr>>),
}

/// What follows a value, and its line.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) line: u32,
    pub(super) kind: StepKind,
}

/// What follows a value.
#[derive(Debug)]
pub(super) enum StepKind {
    Attribute(Rc<str>),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    Filter(Rc<str>, Arguments),
    Test { name: Rc<str>, arguments: Arguments, negated: bool },
}

/// The arguments of a call, in their order.
#[derive(Debug, Default)]
pub(super) struct Arguments(pub(super) Vec<Argument>);

/// One argument.
#[derive(Debug)]
pub(super) enum Argument {
    Positional(Expr),
    Named(Rc<str>, Expr),
    /// `*values`.
    All(Expr),
    /// `**mapping`.
    AllNamed(Expr),
}

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

/// A comparison of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

/// A statement and its line.
#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) line: u32,
    pub(super) kind: StmtKind,
}

/// What a statement does.
#[derive(Debug)]
pub(super) enum StmtKind {
    Data(String),
    Print(Expr),
    /// Conditions with what they guard, and `else`.
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    For(Rc<For>),
    Set(Target, Expr),
    /// `{% set name %}…{% endset %}`, through filters.
    Capture(Target, Vec<Step>, Vec<Stmt>),
    /// `{% with %}`, and other blocks that keep their variables to themselves.
    With(Vec<(Target, Expr)>, Vec<Stmt>),
    /// `{% block %}`, which sees no variables of loops around it.
    Block(Vec<Stmt>),
    Macro(Rc<MacroDef>),
    /// `{% call macro() %}…{% endcall %}`.
    Call(Expr, Rc<MacroDef>),
    /// `{% filter … %}`.
    Filter(Vec<Step>, Vec<Stmt>),
    Break,
    Continue,
}

/// A loop.
#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Vec<Stmt>,
    /// What is rendered instead if there are no items.
    pub(super) otherwise: Vec<Stmt>,
}

/// What is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Rc<str>),
    Tuple(Vec<Self>),
    /// An attribute of a namespace.
    Attribute(Rc<str>, Rc<str>),
}

/// A macro.
#[derive(Debug)]
pub(super) struct MacroDef {
    pub(super) name: Rc<str>,
    pub(super) parameters: Vec<(Rc<str>, Option<Expr>)>,
    pub(super) body: Vec<Stmt>,
    /// Whether the body reads `varargs`, `kwargs` and `caller`. A macro that does not takes no more arguments.
    pub(super) reads: MacroReads,
}

/// Names that are special in a macro.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MacroReads {
    pub(super) varargs: bool,
    pub(super) kwargs: bool,
    pub(super) caller: bool,
}
