#include <math.h>
#include <stdint.h>
/* What the arithmetic of this machine allows: the same steps as the ensembles, written by hand, with the state of 16 * N
   lanes in vector registers. Compiled and run by ensemble.py. w holds states of xoshiro128+, word by word. */
#ifndef N
#define N 4
#endif
typedef float F __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
static inline F root(F a){ F r; for(int i=0;i<16;i++) r[i]=sqrtf(a[i]); return r; }
static inline F size_of(F a){ return (F)((I)a & 0x7fffffff); }
static inline F to_float(I a){ return __builtin_convertvector(a,F); }
static inline F log_of_fraction(U k){
  I bits=(I)to_float((I)(k+1)); I e=(bits-0x3F400000)>>23; F m=(F)(bits-(e<<23))-1.0f;
  F p=1.0000001f+m*(-0.5000022f+m*(0.3332981f+m*(-0.24976534f+m*(0.20106368f+m*(-0.17373969f+m*(0.14149196f+m*-0.06665659f))))));
  return m*p+to_float(e-24)*0.6931472f; }
static inline F sine(F t){ F q=t*t; return t*(3.1415927f+q*(-5.167711f+q*(2.5500865f+q*(-0.59834266f+q*0.0777535f)))); }
static inline void normals(U w0,U w1,F*a,F*b){
  F r=root(-2.0f*log_of_fraction(w0>>8)); F t=to_float((I)w1)*0x1p-31f; F s=size_of(t);
  *a=r*sine(0.5f-s); F y=sine(0.5f-size_of(s-0.5f)); *b=r*(F)(((I)y&0x7fffffff)|((I)t&0x80000000)); }
static inline U word(U*s){ U r=s[0]+s[3]; U q=s[1]<<9; s[2]^=s[0]; s[3]^=s[1]; s[1]^=s[2]; s[0]^=s[3]; s[2]^=q; s[3]=(s[3]<<11)|(s[3]>>21); return r; }
typedef struct {U s[4]; F x; F v; } L;
#define LOOP(BODY) \
  for(long b=0;b<n;b+=16*N){ L l[N]; \
   for(int j=0;j<N;j++) for(int i=0;i<16;i++){ long at=b+16*j+i; l[j].x[i]=x[at]; l[j].v[i]=v[at]; for(int k=0;k<4;k++) l[j].s[k][i]=w[k*n+at]; } \
   for(long p=0;p<pairs;p++) for(int j=0;j<N;j++){ F a,c; U w0=word(l[j].s),w1=word(l[j].s); normals(w0,w1,&a,&c); F y=l[j].x,u=l[j].v; BODY; l[j].x=y; l[j].v=u; } \
   for(int j=0;j<N;j++) for(int i=0;i<16;i++){ long at=b+16*j+i; x[at]=l[j].x[i]; v[at]=l[j].v[i]; for(int k=0;k<4;k++) w[k*n+at]=l[j].s[k][i]; } }
void well(float*x,float*v,uint32_t*w,long n,long pairs,float dt,float amp){
  LOOP({ y=y-dt*(y*y*y-y)+amp*root(1.0f+0.5f*y*y)*a; y=y-dt*(y*y*y-y)+amp*root(1.0f+0.5f*y*y)*c; }) }
void generator(float*x,float*v,uint32_t*w,long n,long pairs,float dt,float amp){
  LOOP({ y+=a; u+=c; }) }
void baoab(float*x,float*v,uint32_t*w,long n,long pairs,float half,float keep,float kick){
  #define STEP(z) { F m=u-half*(y*y*y-y); F k=keep*m+kick*z; y=y+half*(m+k); u=k-half*(y*y*y-y); }
  LOOP({ STEP(a) STEP(c) }) }
