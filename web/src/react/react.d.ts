/** What the hook takes of React: the package does not depend on it, nor on its types. */

declare module "react" {
  export function useState<T>(first: T): [T, (next: T | ((before: T) => T)) => void];
  export function useRef<T>(first: T): { current: T };
  export function useCallback<T>(run: T, reads: readonly unknown[]): T;
  export function useEffect(run: () => (() => void) | undefined, reads: readonly unknown[]): void;
}
